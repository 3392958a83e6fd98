// Package hygiene_test runs the small controllers of standalone mode, and the signer of
// nodes' certificates, against a real API server.
package hygiene_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/controllers/clusterroleaggregation"
	"github.com/keelson-dev/keelson/controllers/csr"
	"github.com/keelson-dev/keelson/controllers/csrcleaner"
	"github.com/keelson-dev/keelson/controllers/storageprotection"
	"github.com/keelson-dev/keelson/controllers/tokens"
	"github.com/keelson-dev/keelson/test/env"
)

var (
	testEnv env.Environment
	// dir holds the keys.
	dir string
)

func TestMain(m *testing.M) {
	os.Exit(env.RunInDir(m, &testEnv, func(made string) ([]env.Option, error) {
		dir = made
		return []env.Option{env.StockAdmission, env.TokensSignedBy(file("sa.key"), file("sa.crt"))}, makeKeys()
	}))
}

func file(name string) string { return filepath.Join(dir, name) }

// makeKeys writes sa.key, which signs tokens, with sa.crt, and ca.key with ca.crt.
func makeKeys() error {
	for _, name := range []string{"sa", "ca"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
		}
		certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(file(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// start runs all of them until the test ends.
func start(t *testing.T) {
	t.Helper()
	testEnv.StartManager(t, func(mgr ctrl.Manager) error {
		for _, add := range []func(ctrl.Manager) error{
			clusterroleaggregation.Add, storageprotection.Add,
			func(mgr ctrl.Manager) error { return csrcleaner.Add(mgr, csrcleaner.Options{}) },
			func(mgr ctrl.Manager) error {
				return csr.Add(mgr, csr.Options{CertFile: file("ca.crt"), KeyFile: file("ca.key"), Duration: time.Hour})
			},
			func(mgr ctrl.Manager) error {
				return tokens.Add(mgr, tokens.Options{KeyFile: file("sa.key"), RootCA: []byte("bundle"), UnusedFor: 365 * 24 * time.Hour})
			},
		} {
			if err := add(mgr); err != nil {
				return err
			}
		}
		return nil
	})
}

func create[T client.Object](t *testing.T, c client.Client, o T) T {
	t.Helper()
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	return o
}

func remove(t *testing.T, o client.Object) {
	t.Helper()
	if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), o); client.IgnoreNotFound(err) != nil {
		t.Fatalf("delete %T %s: %v", o, o.GetName(), err)
	}
}

// get reads o again and tells whether it is there.
func get(t *testing.T, o client.Object) bool {
	t.Helper()
	err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

func gone(t *testing.T, o client.Object) {
	t.Helper()
	env.Eventually(t, func() string {
		if get(t, o) {
			return fmt.Sprintf("%T %s is still there: finalizers %v", o, o.GetName(), o.GetFinalizers())
		}
		return ""
	})
}
