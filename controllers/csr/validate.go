package csr

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func parse(content []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(content)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("PEM block type must be CERTIFICATE REQUEST")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return request, request.CheckSignature()
}

// validate says why the signer cannot sign the request, nil if it can: it is for the
// identity of one node and nothing beside it.
func validate(signer string, asked *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	if !slices.Equal(asked.Subject.Organization, []string{keelsonv1.NodesGroup}) {
		return fmt.Errorf("subject organization is not %s", keelsonv1.NodesGroup)
	}
	name := nodeName(asked)
	if name == "" {
		return fmt.Errorf("subject common name does not begin with %s", keelsonv1.NodeUserPrefix)
	}
	if problems := validation.IsDNS1123Subdomain(name); len(problems) > 0 {
		return fmt.Errorf("subject common name: %q is not the name of a node: %s", name, strings.Join(problems, ", "))
	}
	if len(asked.EmailAddresses) > 0 {
		return errors.New("Email subjectAltNames are not allowed") //nolint:revive // upstream's words
	}
	if len(asked.URIs) > 0 {
		return errors.New("URI subjectAltNames are not allowed")
	}
	if signer == ServingSigner {
		if len(asked.DNSNames) == 0 && len(asked.IPAddresses) == 0 {
			return errors.New("DNS or IP subjectAltName is required")
		}
		return validateUsages(usages, certificatesv1.UsageServerAuth)
	}
	if len(asked.DNSNames) > 0 {
		return errors.New("DNS subjectAltNames are not allowed")
	}
	if len(asked.IPAddresses) > 0 {
		return errors.New("IP subjectAltNames are not allowed")
	}
	return validateUsages(usages, certificatesv1.UsageClientAuth)
}

// validateUsages wants digital signature and purpose, and lets an RSA key encipher keys.
func validateUsages(usages []certificatesv1.KeyUsage, purpose certificatesv1.KeyUsage) error {
	short := sets.New(certificatesv1.UsageDigitalSignature, purpose)
	long := short.Clone().Insert(certificatesv1.UsageKeyEncipherment)
	if have := sets.New(usages...); !have.Equal(short) && !have.Equal(long) {
		return fmt.Errorf("usages did not match %v", sets.List(long))
	}
	return nil
}

// nodeName is the node that the request is for, "" if it is for something else.
func nodeName(asked *x509.CertificateRequest) string {
	name, isNode := strings.CutPrefix(asked.Subject.CommonName, keelsonv1.NodeUserPrefix)
	if !isNode {
		return ""
	}
	return name
}

// permission is a right, written as one to create a subresource of
// certificatesigningrequests, that is enough for an approval.
type permission struct {
	subresource, message string
	// addresses asks that the Node has every address in the request.
	addresses bool
}

// permissions are those of which the author of a valid request must have one.
func permissions(request *certificatesv1.CertificateSigningRequest, asked *x509.CertificateRequest) []permission {
	self := request.Spec.Username == asked.Subject.CommonName
	if request.Spec.SignerName == ServingSigner {
		if !self {
			return nil
		}
		return []permission{{
			subresource: "selfnodeserver", addresses: true,
			message: "Auto approving self node agent server certificate after SubjectAccessReview.",
		}}
	}
	all := []permission{{
		subresource: "nodeclient",
		message:     "Auto approving node agent client certificate after SubjectAccessReview.",
	}}
	if self {
		all = append([]permission{{
			subresource: "selfnodeclient",
			message:     "Auto approving self node agent client certificate after SubjectAccessReview.",
		}}, all...)
	}
	return all
}
