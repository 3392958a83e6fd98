package env

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// shownLog is how much of a log a failed test shows, in bytes.
const shownLog = 50_000

// Process is a program that ends with the test at the latest.
type Process struct {
	Log     Log
	command *exec.Cmd
	ended   chan struct{}
}

// Log can be read while it is written.
type Log struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

// String returns what has been written so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// StartProcess runs a program until the test ends, and shows its log if that failed.
func StartProcess(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	p := &Process{command: exec.Command(path, args...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = &p.Log, &p.Log
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.command.Wait() // how it ended is the test's business, through its log
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.Kill(t)
		if t.Failed() {
			log := p.Log.String()
			t.Logf("log of %s, process %d:\n%s", filepath.Base(path), p.PID(), log[max(0, len(log)-shownLog):])
		}
	})
	return p
}

// PID is the number of the process.
func (p *Process) PID() int { return p.command.Process.Pid }

// Kill ends the process at once and returns when it has ended.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	<-p.ended
}

// HasEnded says whether the process has ended by itself or was killed.
func (p *Process) HasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// FreePort asks the kernel for a port of 127.0.0.1; something else may take it before
// the test does, and then whoever listens says so and the test fails.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// Kubectl runs the real kubectl as an administrator and returns what it prints.
func (e *Environment) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(e.BinDir, "kubectl"), append([]string{"--kubeconfig", e.Kubeconfig}, args...)...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// AsManager is the environment for code that has to work with the rights of the real
// manager, not with a test's.
func (e *Environment) AsManager() *Environment {
	manager := *e
	manager.Config = rest.CopyConfig(e.Config)
	manager.Config.Impersonate = rest.ImpersonationConfig{UserName: keelsonv1.ManagerUser}
	return &manager
}

// ManagerKubeconfig writes a file with credentials that act as the manager's own user.
func (e *Environment) ManagerKubeconfig(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: e.Config.Host, CertificateAuthorityData: e.Config.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {
			ClientCertificateData: e.Config.CertData, ClientKeyData: e.Config.KeyData, Impersonate: keelsonv1.ManagerUser,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
