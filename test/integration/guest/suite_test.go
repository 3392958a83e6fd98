// Package guest_test runs the manager in guest mode beside stock Kubernetes: the API
// server, the controller manager and the scheduler that come with it. Objects of all
// Keelson's kinds and stock ones of the same kinds and names live in one namespace, and
// nobody may touch what is the other's.
//
// It needs bin/stock (`make stock`, minutes) and is skipped without.
package guest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/keelson-dev/keelson/config"
	"github.com/keelson-dev/keelson/test/env"
)

var (
	testEnv env.Environment
	// dir holds the key that signs tokens.
	dir string
	// manager is ours, built once.
	manager string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if _, err := os.Stat(stock(name)); err != nil {
			fmt.Printf("ok: skipped, because %s is not there: `make stock` builds it\n", stock(name))
			return 0
		}
	}
	return env.RunInDir(m, &testEnv, func(made string) (_ []env.Option, err error) {
		dir = made
		if err = makeKey(); err == nil {
			manager, err = env.BuildManager(dir)
		}
		return []env.Option{env.StockAdmission, env.TokensSignedBy(file("sa.key"), file("sa.pub"))}, err
	})
}

func stock(name string) string { return filepath.Join("..", "..", "..", "bin", "stock", name) }

func file(name string) string { return filepath.Join(dir, name) }

func makeKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(file("sa.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(file("sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
}

// startStock runs what a stock control plane has beside the API server.
func startStock(t *testing.T) []*env.Process {
	t.Helper()
	return []*env.Process{
		env.StartProcess(t, stock("kube-controller-manager"), "--kubeconfig", testEnv.Kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--service-account-private-key-file", file("sa.key"), "--controllers=*"),
		env.StartProcess(t, stock("kube-scheduler"), "--kubeconfig", testEnv.Kubeconfig, "--leader-elect=false", "--secure-port=0"),
	}
}

// startGuest installs Keelson as a guest and runs its manager with the rights of one.
func startGuest(t *testing.T) *env.Process {
	t.Helper()
	health, port := net.JoinHostPort("127.0.0.1", strconv.Itoa(env.FreePort(t))), strconv.Itoa(env.FreePort(t))
	url := "https://localhost:" + port
	testEnv.Install(t, config.Namespaces, config.ManagerRBAC, config.NodeRBAC, config.Policy)
	testEnv.Register(t, url)
	p := env.StartProcess(t, manager, "--mode=guest", "--kubeconfig", testEnv.ManagerKubeconfig(t),
		"--health-bind-address", health, "--metrics-bind-address=0", "--webhook-bind-address=127.0.0.1", "--webhook-port", port, "--webhook-url", url,
		"--node-monitor-grace-period=1h", "-v=2")
	env.Eventually(t, func() string {
		if p.HasEnded() {
			t.Fatal("the manager ended")
		}
		response, err := http.Get("http://" + health + "/readyz")
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
	return p
}
