package csr

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
)

const (
	// backdate forgives clocks that are behind.
	backdate = 5 * time.Minute
	// shortest is the least that a request can ask for, as upstream.
	shortest = 10 * time.Minute
)

// lifetime is how long a certificate is good: what was asked for, within limits.
func lifetime(seconds *int32, longest time.Duration) time.Duration {
	if seconds == nil {
		return longest
	}
	return min(max(time.Duration(*seconds)*time.Second, shortest), longest)
}

// authority is the pair of files that certificates are signed with. They are read each
// time: certificates are rare, and a renewed authority counts at once.
type authority struct {
	certFile, keyFile string
}

func (a authority) load() (*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.LoadX509KeyPair(a.certFile, a.keyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read --cluster-signing-cert-file %q and --cluster-signing-key-file %q: %w", a.certFile, a.keyFile, err)
	}
	if !pair.Leaf.IsCA {
		return nil, nil, fmt.Errorf("--cluster-signing-cert-file %s: %s is not a certificate authority", a.certFile, pair.Leaf.Subject)
	}
	key, signs := pair.PrivateKey.(crypto.Signer)
	if !signs {
		return nil, nil, fmt.Errorf("--cluster-signing-key-file %s: a %T cannot sign", a.keyFile, pair.PrivateKey)
	}
	return pair.Leaf, key, nil
}

// sign returns the certificate for asked, PEM encoded. It ends with the authority at the latest.
func (a authority) sign(asked *x509.CertificateRequest, usages []certificatesv1.KeyUsage, life time.Duration, now time.Time) ([]byte, error) {
	issuer, key, err := a.load()
	if err != nil {
		return nil, err
	}
	if !now.Before(issuer.NotAfter) {
		return nil, fmt.Errorf("the signer has expired: NotAfter=%v", issuer.NotAfter)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: asked.Subject, DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses,
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life), BasicConstraintsValid: true,
	}
	if issuer.NotAfter.Before(template.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	for _, usage := range usages {
		switch usage {
		case certificatesv1.UsageDigitalSignature:
			template.KeyUsage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			template.KeyUsage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageClientAuth:
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		case certificatesv1.UsageServerAuth:
			template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		default:
			return nil, errors.New("unrecognized usage " + string(usage))
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, asked.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
