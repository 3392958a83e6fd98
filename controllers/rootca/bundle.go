package rootca

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	certutil "k8s.io/client-go/util/cert"
)

// LoadBundle reads file, or the authorities of cfg when file is empty, and checks that
// it holds certificates.
func LoadBundle(file string, cfg *rest.Config) (string, error) {
	content, origin, err := readBundle(file, cfg)
	if err != nil {
		return "", err
	}
	if _, err := certutil.ParseCertsPEM(content); err != nil {
		return "", fmt.Errorf("%s holds no usable certificates: %w", origin, err)
	}
	// Everybody may read what is published; a key in it would be everybody's.
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != certutil.CertificateBlockType {
			return "", fmt.Errorf("%s holds a block of type %q: only certificates may be published", origin, block.Type)
		}
	}
	return string(content), nil
}

func readBundle(file string, cfg *rest.Config) (content []byte, origin string, err error) {
	if file != "" {
		origin = "--root-ca-file " + file
		content, err = os.ReadFile(file)
		if err != nil {
			return nil, "", fmt.Errorf("read --root-ca-file: %w", err)
		}
		return content, origin, nil
	}
	if len(cfg.CAData) > 0 {
		return cfg.CAData, "the certificate authority of --kubeconfig", nil
	}
	if cfg.CAFile == "" {
		return nil, "", errors.New("no certificate authority to publish as ConfigMap " + Name +
			": the credentials name none; set --root-ca-file, or leave the controller out with --controllers=*,-rootca")
	}
	content, err = os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, "", fmt.Errorf("read the certificate authority of the credentials: %w", err)
	}
	return content, cfg.CAFile, nil
}
