// Package guest_test runs the manager in guest mode beside stock Kubernetes: the API
// server, the controller manager and the scheduler that come with it. Objects of all
// Keelson's kinds and stock ones of the same kinds and names live in one namespace, and
// nobody may touch what is the other's.
//
// It needs bin/stock (`make stock`, minutes) and is skipped without.
package guest_test

import (
	"bytes"
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
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
	webhookconfig "github.com/keelson-dev/keelson/config/webhook"
	"github.com/keelson-dev/keelson/test/env"
)

var (
	testEnv env.Environment
	// dir holds the manager and the key that signs tokens.
	dir string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if _, err := os.Stat(stock(name)); err != nil {
			fmt.Printf("ok: skipped, because %s is not there: `make stock` builds it\n", stock(name))
			return 0
		}
	}
	var err error
	if dir, err = os.MkdirTemp("", "keelson-guest-test-"); err != nil {
		fmt.Fprintln(os.Stderr, "Cannot make a temporary directory:", err)
		return 1
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "Cannot remove the temporary directory:", err)
		}
	}()
	if err := errors.Join(makeKey(), build()); err != nil {
		fmt.Fprintln(os.Stderr, "Cannot prepare:", err)
		return 1
	}
	return env.Run(m, &testEnv, env.StockAdmission, func(e *envtest.Environment) {
		e.ControlPlane.GetAPIServer().Configure().
			Set("service-account-signing-key-file", file("sa.key")).
			Set("service-account-key-file", file("sa.pub"))
	})
}

func stock(name string) string { return filepath.Join("..", "..", "..", "bin", "stock", name) }

func file(name string) string { return filepath.Join(dir, name) }

func build() error {
	command := exec.Command("go", "build", "-o", file("keelson-manager"), "github.com/keelson-dev/keelson/cmd/manager")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the manager: %w\n%s", err, out)
	}
	return nil
}

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

// process is one program of a control plane.
type process struct {
	log   lockedBuffer
	ended chan struct{}
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// start runs a program until the test ends, and shows its log if that failed.
func start(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	command := exec.Command(path, args...)
	command.Stdout, command.Stderr = &p.log, &p.log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = command.Wait() // how it ended is the test's business, through its log
		close(p.ended)
	}()
	t.Cleanup(func() {
		if err := command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		<-p.ended
		if t.Failed() {
			log := p.log.String()
			t.Logf("the log of %s ends with:\n%s", path, log[max(0, len(log)-5000):])
		}
	})
	return p
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// startStock runs what a stock control plane has beside the API server.
func startStock(t *testing.T) []*process {
	t.Helper()
	return []*process{
		start(t, stock("kube-controller-manager"), "--kubeconfig", testEnv.Kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--service-account-private-key-file", file("sa.key"), "--controllers=*"),
		start(t, stock("kube-scheduler"), "--kubeconfig", testEnv.Kubeconfig, "--leader-elect=false", "--secure-port=0"),
	}
}

// startGuest installs Keelson as a guest and runs its manager with the rights of one.
func startGuest(t *testing.T) *process {
	t.Helper()
	health, port := net.JoinHostPort("127.0.0.1", freePort(t)), freePort(t)
	url := "https://localhost:" + port
	objects, err := config.Objects(config.Namespaces, config.ManagerRBAC, config.NodeRBAC, config.Policy)
	if err != nil {
		t.Fatal(err)
	}
	registrations, err := webhookconfig.ForURL(url)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range append(objects, registrations...) {
		if err := testEnv.Client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
	p := start(t, file("keelson-manager"), "--mode=guest", "--kubeconfig", kubeconfig(t),
		"--health-bind-address", health, "--metrics-bind-address=0", "--webhook-bind-address=127.0.0.1", "--webhook-port", port, "--webhook-url", url,
		"--node-monitor-grace-period=1h", "-v=2")
	env.Eventually(t, func() string {
		if p.hasEnded() {
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

// kubeconfig writes credentials that act as the manager's own user.
func kubeconfig(t *testing.T) string {
	t.Helper()
	cfg := testEnv.Config
	path := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: cfg.Host, CertificateAuthorityData: cfg.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {
			ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData, Impersonate: keelsonv1.ManagerUser,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}
