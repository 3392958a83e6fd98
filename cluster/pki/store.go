package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/files"
)

const (
	blockCertificate = "CERTIFICATE"
	blockKey         = "PRIVATE KEY"
	blockPublicKey   = "PUBLIC KEY"
)

// Store is a directory of authorities and certificates.
type Store struct {
	dir   string
	clock clock.PassiveClock
}

// NewStore returns the store in dir, which Ensure creates when needed.
func NewStore(dir string, c clock.PassiveClock) *Store {
	return &Store{dir: dir, clock: c}
}

// LeafFile is the path of a leaf: one PEM file with certificate and key, which
// every program here accepts for both.
func (s *Store) LeafFile(name string) string { return filepath.Join(s.dir, name+".pem") }

// AuthorityFile is the path of an authority's certificate; its key is beside it.
func (s *Store) AuthorityFile(name string) string { return filepath.Join(s.dir, name+".crt") }

// AuthorityKeyFile is the path of an authority's private key.
func (s *Store) AuthorityKeyFile(name string) string { return filepath.Join(s.dir, name+".key") }

// SigningKeyFiles are the paths of a key pair that signs tokens.
func (s *Store) SigningKeyFiles(name string) (private, public string) {
	return filepath.Join(s.dir, name+".key"), filepath.Join(s.dir, name+".pub")
}

// Issued is one certificate that Ensure had to issue, and why.
type Issued struct{ Name, Reason string }

// Ensure makes the store hold the authorities, the signing key pairs and the
// leaves, and returns what it issued. Doing it again changes nothing until a
// leaf is near its end or its description changed.
func (s *Store) Ensure(authorities, signingKeys []string, leaves []Leaf) ([]Issued, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory of certificates: %w", err)
	}
	var issued []Issued
	signers := make(map[string]*signer, len(authorities))
	for _, name := range authorities {
		ca, created, err := s.ensureAuthority(name)
		if err != nil {
			return issued, fmt.Errorf("authority %s: %w", name, err)
		}
		if created {
			issued = append(issued, Issued{name, "there is none yet"})
		}
		signers[name] = ca
	}
	for _, name := range signingKeys {
		if err := s.ensureSigningKey(name); err != nil {
			return issued, fmt.Errorf("signing key %s: %w", name, err)
		}
	}
	for _, leaf := range leaves {
		ca, ok := signers[leaf.Authority]
		if !ok {
			return issued, fmt.Errorf("certificate %s: no authority %q", leaf.Name, leaf.Authority)
		}
		reason, err := s.ensureLeaf(leaf, ca)
		if err != nil {
			return issued, fmt.Errorf("certificate %s: %w", leaf.Name, err)
		}
		if reason != "" {
			issued = append(issued, Issued{leaf.Name, reason})
		}
	}
	return issued, nil
}

// signer is an authority that can sign.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (s *Store) ensureAuthority(name string) (*signer, bool, error) {
	keyPEM, keyErr := os.ReadFile(s.AuthorityKeyFile(name))
	certPEM, certErr := os.ReadFile(s.AuthorityFile(name))
	switch {
	case keyErr == nil && certErr == nil:
		ca, err := parsePair(certPEM, keyPEM)
		if err != nil {
			return nil, false, fmt.Errorf("read %s and its key: %w (put the files back, or remove the cluster with 'keelson down')", s.AuthorityFile(name), err)
		}
		return ca, false, nil
	case errors.Is(certErr, fs.ErrNotExist):
		// A key without certificate is a first run that was interrupted: nothing
		// was signed with it yet.
		ca, err := s.createAuthority(name)
		return ca, err == nil, err
	default:
		return nil, false, errors.Join(keyErr, certErr)
	}
}

func (s *Store) createAuthority(name string) (*signer, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template, err := s.template(pkix.Name{CommonName: "keelson " + name}, AuthorityLifetime)
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign itself: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	// The certificate comes last: its presence says that the pair is complete.
	if err := files.Replace(s.AuthorityKeyFile(name), keyPEM, 0o600); err != nil {
		return nil, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
	if err := files.Replace(s.AuthorityFile(name), certPEM, 0o644); err != nil {
		return nil, err
	}
	return parsePair(certPEM, keyPEM)
}

func (s *Store) ensureSigningKey(name string) error {
	privateFile, publicFile := s.SigningKeyFiles(name)
	keyPEM, err := os.ReadFile(privateFile)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := newKey()
		if err != nil {
			return err
		}
		if keyPEM, err = encodeKey(key); err != nil {
			return err
		}
		if err := files.Replace(privateFile, keyPEM, 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return fmt.Errorf("read %s: %w", privateFile, err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the public key: %w", err)
	}
	if _, err := os.Stat(publicFile); err == nil {
		return nil
	}
	return files.Replace(publicFile, pem.EncodeToMemory(&pem.Block{Type: blockPublicKey, Bytes: der}), 0o644)
}

func (s *Store) ensureLeaf(want Leaf, ca *signer) (reason string, err error) {
	var have *x509.Certificate
	data, err := os.ReadFile(s.LeafFile(want.Name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default:
		pair, err := parsePair(data, data)
		if err != nil {
			reason = fmt.Sprintf("it cannot be read: %v", err)
		} else {
			have = pair.cert
		}
	}
	if reason == "" {
		reason = reasonToIssue(have, want, ca.cert, s.clock.Now())
	}
	if reason == "" && want.Chain && !bytes.Contains(data, encodeCertificate(ca.cert.Raw)) {
		reason = "its authority is not with it"
	}
	if reason == "" {
		return "", nil
	}
	return reason, s.issue(want, ca)
}

func (s *Store) issue(want Leaf, ca *signer) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	template, err := s.template(pkix.Name{CommonName: want.User, Organization: want.Groups}, LeafLifetime)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = want.Usage.extKeyUsage()
	template.DNSNames = want.DNSNames
	for _, a := range want.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	content := encodeCertificate(der)
	if want.Chain {
		content = append(content, encodeCertificate(ca.cert.Raw)...)
	}
	return files.Replace(s.LeafFile(want.Name), append(content, keyPEM...), 0o600)
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: der})
}

func (s *Store) template(subject pkix.Name, lifetime time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choose a serial number: %w", err)
	}
	now := s.clock.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(lifetime),
	}, nil
}

func newKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	return key, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockKey, Bytes: der}), nil
}

func parseKey(data []byte) (crypto.Signer, error) {
	der, err := block(data, blockKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse the key: %w", err)
	}
	signing, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signing, nil
}

func parsePair(certPEM, keyPEM []byte) (*signer, error) {
	der, err := block(certPEM, blockCertificate)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return nil, errors.New("the key does not belong to the certificate")
	}
	return &signer{cert: cert, key: key}, nil
}

func block(data []byte, blockType string) ([]byte, error) {
	for {
		b, rest := pem.Decode(data)
		if b == nil {
			return nil, fmt.Errorf("no %s in it", blockType)
		}
		if b.Type == blockType {
			return b.Bytes, nil
		}
		data = rest
	}
}
