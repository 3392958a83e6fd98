package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"

	"github.com/keelson-dev/keelson/nodeagent/state"
)

const (
	selfSignedFile     = "node.pem"
	selfSignedLifetime = 365 * 24 * time.Hour
	// renewBefore is how long before its end a self-signed certificate is made again.
	renewBefore = selfSignedLifetime / 4
	clockSkew   = time.Hour
)

// ensureSelfSigned returns the certificate at path, made again when it is missing, does
// not fit any more or ends soon.
func ensureSelfSigned(path string, o CertificateOptions) (*tls.Certificate, error) {
	if have, err := loadSelfSigned(path); err == nil && fits(have.Leaf, o) {
		return have, nil
	}
	data, err := selfSign(o)
	if err != nil {
		return nil, fmt.Errorf("making the node's certificate: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the node's certificate: %w", err)
	}
	if err := state.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	return loadSelfSigned(path)
}

func loadSelfSigned(path string) (*tls.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return &pair, nil
}

// fits says that the certificate names this node and does not end soon.
func fits(c *x509.Certificate, o CertificateOptions) bool {
	now := o.Clock.Now()
	if c == nil || now.Before(c.NotBefore) || now.After(c.NotAfter.Add(-renewBefore)) || c.VerifyHostname(o.NodeName) != nil {
		return false
	}
	for _, a := range o.Addresses {
		if c.VerifyHostname(a.String()) != nil {
			return false
		}
	}
	return true
}

// selfSign returns a new key and its certificate in one text: a crash cannot part them.
func selfSign(o CertificateOptions) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := o.Clock.Now()
	template := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: fmt.Sprintf("%s@%d", o.NodeName, now.Unix())},
		NotBefore:    now.Add(-clockSkew), NotAfter: now.Add(selfSignedLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, DNSNames: []string{o.NodeName},
	}
	for _, a := range o.Addresses {
		template.IPAddresses = append(template.IPAddresses, a.AsSlice())
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, block := range []*pem.Block{
		{Type: keyutil.PrivateKeyBlockType, Bytes: encodedKey},
		{Type: certutil.CertificateBlockType, Bytes: certificate},
	} {
		if err := pem.Encode(&text, block); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}
