package admission

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/cert-controller/pkg/rotator"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// ServiceName is the Service before the replicas in a cluster that has Services.
	ServiceName = "keelson-webhook"
	// SecretName is the Secret that all replicas share the key pair through.
	SecretName = "keelson-webhook"

	systemNamespace = keelsonv1.SystemNamespace

	caKeyName = "ca.key"
	caName    = "keelson-webhook-ca"

	caLifetime     = 365 * 24 * time.Hour
	serverLifetime = 90 * 24 * time.Hour
	// backdating lets machines whose clocks are behind accept a new certificate.
	backdating = time.Hour
	// renewBefore is the share of its lifetime that a certificate has left when it
	// is renewed.
	renewBefore = 3
)

// serverAuth is what the certificates are for.
var serverAuth = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}

// step is what the key pair in the Secret needs.
type step string

const (
	keep        step = "keep"
	renewServer step = "renew the server certificate"
	renewAll    step = "renew the certificate authority and the server certificate"
)

// planCertificate says what the data of the Secret needs at the given time.
func planCertificate(data map[string][]byte, names []string, now time.Time) step {
	authority := data[corev1.ServiceAccountRootCAKey]
	// The CA has to outlive a server certificate signed now, else that would be
	// renewed for its sake alone.
	if valid, err := rotator.ValidCert(authority, authority, data[caKeyName], caName, nil, now.Add(caLifetime/renewBefore)); err != nil || !valid {
		return renewAll
	}
	for _, name := range names {
		valid, err := rotator.ValidCert(authority, data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey], name, &serverAuth, now.Add(serverLifetime/renewBefore))
		if err != nil || !valid {
			return renewServer
		}
	}
	return keep
}

// nextLook is the time until planCertificate may say something else.
func nextLook(data map[string][]byte, now time.Time) time.Duration {
	first := serverLifetime
	for key, lifetime := range map[string]time.Duration{corev1.ServiceAccountRootCAKey: caLifetime, corev1.TLSCertKey: serverLifetime} {
		block, _ := pem.Decode(data[key])
		if block == nil {
			return 0
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return 0
		}
		first = min(first, certificate.NotAfter.Add(-lifetime/renewBefore).Sub(now))
	}
	return max(first, 0) + time.Second
}

// issue makes the data of the Secret that the step asks for. A new CA comes before
// the old one in ca.crt: replicas that still serve the old certificate stay trusted.
func issue(s step, data map[string][]byte, names []string, now time.Time) (map[string][]byte, error) {
	maker := &rotator.CertRotator{
		CAName: caName, CAOrganization: "keelson", DNSName: names[0], ExtraDNSNames: names[1:], ExtKeyUsages: &serverAuth,
	}
	var authority *rotator.KeyPairArtifacts
	bundle := data[corev1.ServiceAccountRootCAKey]
	if s == renewAll {
		made, err := maker.CreateCACert(now.Add(-backdating), now.Add(caLifetime))
		if err != nil {
			return nil, fmt.Errorf("create the certificate authority of the webhook: %w", err)
		}
		authority, bundle = made, append(append([]byte{}, made.CertPEM...), firstBlock(bundle)...)
	} else {
		parsed, err := parseAuthority(data)
		if err != nil {
			return nil, err
		}
		authority = parsed
	}
	certificate, key, err := maker.CreateCertPEM(authority, now.Add(-backdating), now.Add(serverLifetime))
	if err != nil {
		return nil, fmt.Errorf("create the certificate of the webhook: %w", err)
	}
	return map[string][]byte{
		corev1.ServiceAccountRootCAKey: bundle, caKeyName: authority.KeyPEM,
		corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key,
	}, nil
}

// firstBlock is the newest certificate of a bundle.
func firstBlock(bundle []byte) []byte {
	block, _ := pem.Decode(bundle)
	if block == nil {
		return nil
	}
	return pem.EncodeToMemory(block)
}

func parseAuthority(data map[string][]byte) (*rotator.KeyPairArtifacts, error) {
	certPEM, keyPEM := firstBlock(data[corev1.ServiceAccountRootCAKey]), data[caKeyName]
	keyBlock, _ := pem.Decode(keyPEM)
	certBlock, _ := pem.Decode(certPEM)
	if keyBlock == nil || certBlock == nil {
		return nil, errors.New("the certificate authority of the webhook is not PEM")
	}
	certificate, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate authority of the webhook: %w", err)
	}
	key, err := x509.ParsePKCS1PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse the key of the webhook's certificate authority: %w", err)
	}
	return &rotator.KeyPairArtifacts{Cert: certificate, Key: key, CertPEM: certPEM, KeyPEM: keyPEM}, nil
}

// errNoCertificate is what a client gets in the first moments of a process.
var errNoCertificate = errors.New("the certificate of the webhook is not ready yet")

// servingCertificate hands the TLS server the newest certificate.
type servingCertificate struct {
	current atomic.Pointer[tls.Certificate]
	settled atomic.Bool
}

func (s *servingCertificate) serve(config *tls.Config) {
	config.MinVersion = tls.VersionTLS12
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if c := s.current.Load(); c != nil {
			return c, nil
		}
		return nil, errNoCertificate
	}
}

func (s *servingCertificate) load(data map[string][]byte) error {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return fmt.Errorf("load the certificate of the webhook: %w", err)
	}
	s.current.Store(&pair)
	return nil
}

func (s *servingCertificate) ready() error {
	if !s.settled.Load() {
		return errNoCertificate
	}
	return nil
}
