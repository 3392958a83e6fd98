package tokens

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"

	// The hashes of the algorithms below.
	_ "crypto/sha512"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/keyutil"
)

// legacyIssuer is the one of tokens in Secrets. The API server looks the Secret up and
// compares, so that a token ends with its Secret.
const legacyIssuer = "kubernetes/serviceaccount"

// claims are those of a token in a Secret. It never expires.
type claims struct {
	Issuer    string `json:"iss"`
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
	Subject   string `json:"sub"`
}

func legacyClaims(account *corev1.ServiceAccount, secret *corev1.Secret) claims {
	return claims{
		Issuer: legacyIssuer, Namespace: account.Namespace, Secret: secret.Name, Account: account.Name, UID: string(account.UID),
		Subject: "system:serviceaccount:" + account.Namespace + ":" + account.Name,
	}
}

// signer is a private key with what JOSE calls its algorithm and key.
type signer struct {
	key       crypto.Signer
	algorithm string
	hash      crypto.Hash
	id        string
}

func loadSigner(file string) (*signer, error) {
	loaded, err := keyutil.PrivateKeyFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("read --service-account-private-key-file %s: %w", file, err)
	}
	s := &signer{}
	switch key := loaded.(type) {
	case *rsa.PrivateKey:
		s.key, s.algorithm, s.hash = key, "RS256", crypto.SHA256
	case *ecdsa.PrivateKey:
		s.key = key
		switch key.Curve.Params().BitSize {
		case 256:
			s.algorithm, s.hash = "ES256", crypto.SHA256
		case 384:
			s.algorithm, s.hash = "ES384", crypto.SHA384
		case 521:
			s.algorithm, s.hash = "ES512", crypto.SHA512
		}
	}
	if s.algorithm == "" {
		return nil, fmt.Errorf("--service-account-private-key-file %s: a %T signs no tokens; use an RSA or ECDSA key (P-256, P-384, P-521)", file, loaded)
	}
	// The API server finds the key by this name.
	public, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the public key of --service-account-private-key-file %s: %w", file, err)
	}
	sum := sha256.Sum256(public)
	s.id = base64.RawURLEncoding.EncodeToString(sum[:])
	return s, nil
}

// sign makes a token in JWS compact form with the key in file.
func sign(file string, c claims) (string, error) {
	s, err := loadSigner(file)
	if err != nil {
		return "", err
	}
	header, err := json.Marshal(map[string]string{"alg": s.algorithm, "kid": s.id})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	content := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := s.sign([]byte(content))
	if err != nil {
		return "", err
	}
	return content + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func (s *signer) sign(content []byte) ([]byte, error) {
	hash := s.hash.New()
	hash.Write(content)
	digest := hash.Sum(nil)
	key, isECDSA := s.key.(*ecdsa.PrivateKey)
	if !isECDSA {
		return s.key.Sign(rand.Reader, digest, s.hash)
	}
	// JOSE wants both numbers at full length, not ASN.1.
	r, v, err := ecdsa.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	size := (key.Curve.Params().BitSize + 7) / 8
	signature := make([]byte, 2*size)
	r.FillBytes(signature[:size])
	v.FillBytes(signature[size:])
	return signature, nil
}
