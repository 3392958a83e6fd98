package local

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// apiServer remembers with which credentials requests came.
type apiServer struct {
	*httptest.Server
	mu   sync.Mutex
	came []string
}

func newAPIServer(t *testing.T) *apiServer {
	t.Helper()
	a := &apiServer{}
	a.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.URL.Path + " " + r.Header.Get("Authorization")
		for _, name := range []string{"Impersonate-User", "Impersonate-Group", "Impersonate-Extra-Key", "Cookie"} {
			if values := r.Header[name]; len(values) > 0 {
				line += " " + name + "=" + strings.Join(values, ",")
			}
		}
		a.mu.Lock()
		a.came = append(a.came, line)
		a.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"kind":"List","apiVersion":"v1","metadata":{},"items":[]}`) //nolint:errcheck // a test
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *apiServer) log() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.came)
}

func (a *apiServer) authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate().Raw})
}

// caller is somebody with a token for the API server.
func (a *apiServer) caller() *rest.Config {
	return &rest.Config{Host: a.URL, BearerToken: "callers-own", TLSClientConfig: rest.TLSClientConfig{CAData: a.authority()}}
}

func TestOnlyTheHolderOfTheTokenGetsInAndOnlyWithTheCallersRights(t *testing.T) {
	tests := map[string]struct {
		as       string // the caller's --as
		header   http.Header
		noToken  bool
		path     string
		wantCode int
		want     []string
	}{
		"without the token": {noToken: true, wantCode: 401},
		"with another one":  {noToken: true, header: http.Header{"Authorization": {"Bearer guess"}}, wantCode: 401},
		"with the token":    {wantCode: 200, want: []string{"GET /api/v1/configmaps Bearer callers-own"}},
		"our kinds, too": {
			path: "/api/v1/pods", wantCode: 200, want: []string{"GET /apis/core.keelson.dev/v1/pods Bearer callers-own"},
		},
		"impersonation is the API server's to judge": {
			header: http.Header{"Impersonate-User": {"bob"}, "Impersonate-Group": {"a", "b"}, "Impersonate-Extra-Key": {"v"}}, wantCode: 200,
			want: []string{"GET /api/v1/configmaps Bearer callers-own Impersonate-User=bob Impersonate-Group=a,b Impersonate-Extra-Key=v"},
		},
		"for our kinds, too": {
			path: "/api/v1/pods", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 200,
			want: []string{"GET /apis/core.keelson.dev/v1/pods Bearer callers-own Impersonate-User=bob"},
		},
		"a caller who acts as somebody": {as: "ann", wantCode: 200, want: []string{"GET /api/v1/configmaps Bearer callers-own Impersonate-User=ann"}},
		"and wants to be a third one":   {as: "ann", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 400},
		"a group without a user":        {header: http.Header{"Impersonate-Group": {"a"}}, wantCode: 400},
		"agents know nothing of impersonation": {
			path: "/api/v1/namespaces/a/pods/p/log", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 400,
		},
		"nor do their numbers": {path: "/apis/metrics.k8s.io/v1beta1/nodes", header: http.Header{"Impersonate-User": {"bob"}}, wantCode: 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t)
			caller := api.caller()
			caller.Impersonate.UserName = tt.as
			g, err := Start(t.Context(), Options{Caller: caller, Namespace: "here"})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close() //nolint:errcheck // a test
			config, err := clientcmd.NewDefaultClientConfig(*g.Kubeconfig(), nil).ClientConfig()
			if err != nil {
				t.Fatal(err)
			}
			if tt.noToken {
				config.BearerToken = ""
			}
			client, err := rest.HTTPClientFor(config)
			if err != nil {
				t.Fatal(err)
			}
			path := tt.path
			if path == "" {
				path = "/api/v1/configmaps"
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != nil {
				r.Header = tt.header
			}
			answer, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if answer.StatusCode != tt.wantCode {
				t.Errorf("code %d, want %d: %s", answer.StatusCode, tt.wantCode, body)
			}
			if diff := cmp.Diff(tt.want, api.log(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the API server saw (-want +got):\n%s", diff)
			}
		})
	}
}

func TestItListensOnLoopbackWithTLSAlone(t *testing.T) {
	g, err := Start(t.Context(), Options{Caller: newAPIServer(t).caller()})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close() //nolint:errcheck // a test
	if !strings.HasPrefix(g.Address(), "127.0.0.1:") {
		t.Errorf("it listens on %s", g.Address())
	}
	if _, err := tls.Dial("tcp", g.Address(), &tls.Config{}); err == nil {
		t.Error("its certificate is trusted without its authority")
	}
	other, err := Start(t.Context(), Options{Caller: newAPIServer(t).caller()})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close() //nolint:errcheck // a test
	if g.token == other.token || len(g.token) < 43 {
		t.Errorf("tokens %q and %q", g.token, other.token)
	}
}

// kubectl is a shell script in its place, run with the kubeconfig of a caller.
func kubectl(t *testing.T, script string) (run func(args ...string) int, out *bytes.Buffer, api *apiServer) {
	t.Helper()
	api = newAPIServer(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: api.URL, CertificateAuthorityData: api.authority()}
	config.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "callers-own"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u", Namespace: "here"}
	config.CurrentContext = "x"
	kubeconfig := filepath.Join(dir, "config")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", kubeconfig)
	t.Setenv("TMPDIR", t.TempDir())
	out = &bytes.Buffer{}
	return func(args ...string) int {
		k := Kubectl{Program: program, Environ: os.Environ(), Stdin: strings.NewReader("input"), Stdout: out, Stderr: out}
		return k.Run(t.Context(), args)
	}, out, api
}

func TestKubectlRunsBehindTheGateway(t *testing.T) {
	run, out, _ := kubectl(t, `
echo "args: $*"
grep -E 'server:|namespace:' "$KUBECONFIG" | sed 's/:[0-9]*$/:PORT/'
stat -c %a "$KUBECONFIG"
case "$KUBECACHEDIR" in "$TMPDIR"/*) echo "cache: own";; esac
cat
`)
	if code := run("get", "pods", "--context=x", "-o", "wide"); code != 0 {
		t.Errorf("code %d", code)
	}
	want := "args: get pods -o wide\n    server: https://127.0.0.1:PORT\n    namespace: here\n600\ncache: own\ninput"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("kubectl saw (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExitCodes(t *testing.T) {
	tests := map[string]struct {
		script  string
		args    []string
		want    int
		wantOut string
	}{
		"success":                        {script: "exit 0", args: []string{"get"}, want: 0},
		"kubectl's own":                  {script: "exit 42", args: []string{"diff"}, want: 42},
		"a signal":                       {script: "kill -KILL $$", args: []string{"get"}, want: 128 + 9},
		"an argument that is wrong":      {script: "exit 0", args: []string{"get", "--context"}, want: 1, wantOut: "flag needs an argument: --context"},
		"a context that is not there":    {script: "exit 0", args: []string{"get", "--context=nope"}, want: 1, wantOut: `context "nope" does not exist`},
		"a command about the kubeconfig": {script: `grep -q callers-own "$KUBECONFIG" && exit 7`, args: []string{"config", "view"}, want: 7},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			run, out, _ := kubectl(t, tt.script)
			if code := run(tt.args...); code != tt.want {
				t.Errorf("code %d, want %d", code, tt.want)
			}
			if !strings.Contains(out.String(), tt.wantOut) {
				t.Errorf("output %q lacks %q", out, tt.wantOut)
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestKubectlThatIsNotThere(t *testing.T) {
	var out bytes.Buffer
	k := Kubectl{Program: "kubectl-that-is-nowhere", Environ: os.Environ(), Stdout: &out, Stderr: &out}
	if code := k.Run(t.Context(), []string{"config", "view"}); code != 1 || !strings.Contains(out.String(), "KUBECTL") {
		t.Errorf("code %d, %s", code, &out)
	}
}

func TestSignalsReachKubectl(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			ready := filepath.Join(t.TempDir(), "ready")
			run, out, _ := kubectl(t, fmt.Sprintf("trap 'echo got %s; exit 3' %s\n: > %s\nwhile :; do sleep 0.05; done\n", name, name, ready))
			code := make(chan int, 1)
			go func() { code <- run("get", "pods", "-w") }()
			deadline := time.Now().Add(10 * time.Second)
			for {
				if _, err := os.Stat(ready); err == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("kubectl has not started")
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err := syscall.Kill(os.Getpid(), signal); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-code:
				if got != 3 || !strings.Contains(out.String(), "got "+name) {
					t.Errorf("code %d, output %s", got, out)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("kubectl has not got it")
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestWhyTheAPIServerWasNotReachedIsSaid(t *testing.T) {
	run, out, api := kubectl(t, `curl -sk -o /dev/null -H "Authorization: Bearer $(sed -n 's/.*token: //p' "$KUBECONFIG")" "$(sed -n 's/.*server: //p' "$KUBECONFIG")/api/v1/configmaps"; exit 1`)
	api.Close()
	if code := run("get", "configmaps"); code != 1 || !strings.Contains(out.String(), "cannot reach the API server at "+api.URL) || !strings.Contains(out.String(), "connection refused") {
		t.Errorf("code %d, output %s", code, out)
	}
}
