package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// TestAPIOfTheNode asks it with tokens of the API server, which also judges them.
func TestAPIOfTheNode(t *testing.T) {
	m := newMachine(t, "serves")
	m.options.ServerAddress, m.options.ServerPort = "127.0.0.1", freePort(t)
	a := m.join()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.serveAPI(ctx, prometheus.NewRegistry()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	pod := m.eventuallyShows(m.create(m.makePod("web")), "Running")
	allowed, other := serviceAccountToken(t, "scraper"), serviceAccountToken(t, "other")
	allow(t, "scraper", "nodes/proxy", "nodes/log")

	where := fmt.Sprintf("https://127.0.0.1:%d", m.options.ServerPort)
	m.eventually("the token is allowed", func(ctx context.Context) bool { // the authorizer of the API server lags behind
		status, _ := ask(ctx, t, where+"/pods", allowed)
		return status == http.StatusOK
	})
	if _, body := ask(ctx, t, where+"/pods", allowed); !strings.Contains(body, `"name":"web"`) || !strings.Contains(body, `"phase":"Running"`) {
		t.Errorf("the Pods are %s", body)
	}
	status, body := ask(ctx, t, where+"/pods", other)
	if want := "Forbidden (user=system:serviceaccount:default:other, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"; status != 403 || body != want {
		t.Errorf("another account gets %d %q", status, body)
	}
	if status, _ := ask(ctx, t, where+"/pods", serviceAccountToken(t, "scraper", "somebody-else")); status != 401 {
		t.Errorf("a token for others gets %d", status)
	}
	status, body = ask(ctx, t, where+"/containerLogs/default/web/main?previous=true", allowed)
	if want := `previous terminated container "main" in pod "web" not found`; status != 400 || body != want {
		t.Errorf("a log gets %d %q", status, body)
	}
	var n keelsonv1.Node
	m.eventually("the Node says the port", func(ctx context.Context) bool {
		return m.client.Get(ctx, client.ObjectKey{Name: m.name}, &n) == nil &&
			int(n.Status.DaemonEndpoints.KubeletEndpoint.Port) == m.options.ServerPort
	})
	if err := m.client.Delete(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	m.eventuallyGone(pod)
}

func TestAPortInUseEndsTheAgentWithItsFlag(t *testing.T) {
	m := newMachine(t, "port-in-use")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	m.options.ServerAddress, m.options.ServerPort = "127.0.0.1", taken.Addr().(*net.TCPAddr).Port
	err = (&agent{options: m.options}).serveAPI(t.Context(), prometheus.NewRegistry())
	if err == nil || !strings.HasPrefix(err.Error(), "--server-address, --server-port: listen tcp") {
		t.Errorf("error is %v", err)
	}
}

func TestServerOptions(t *testing.T) {
	tests := map[string]struct {
		change func(*Options)
		want   string
	}{
		"the defaults are good":         {func(*Options) {}, ""},
		"no server at all":              {func(o *Options) { o.ServerPort = 0 }, ""},
		"an address that is a name":     {func(o *Options) { o.ServerAddress = "localhost" }, `--server-address: "localhost" is not an IP address of this machine; 0.0.0.0 means all`},
		"a port that is none":           {func(o *Options) { o.ServerPort = 65536 }, "--server-port: 65536 is not a port: use 1 to 65535, or 0 for none"},
		"a certificate without its key": {func(o *Options) { o.TLSCertFile = "/a" }, "--tls-cert-file and --tls-private-key-file: give both, or none"},
		"a key without its certificate": {func(o *Options) { o.TLSPrivateKeyFile = "/a" }, "--tls-cert-file and --tls-private-key-file: give both, or none"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewOptions()
			test.change(o)
			got := ""
			if err := errors.Join(o.validateServer()...); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("says %q, want %q", got, test.want)
			}
		})
	}
}

func ask(ctx context.Context, t *testing.T, url, token string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the node signs for itself
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// serviceAccountToken makes the account if need be.
func serviceAccountToken(t *testing.T, name string, audiences ...string) string {
	t.Helper()
	clients, err := kubernetes.NewForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	accounts := clients.CoreV1().ServiceAccounts("default")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := accounts.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
		if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences}}
	answer, err := accounts.CreateToken(t.Context(), name, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return answer.Status.Token
}

// allow lets a service account get the given subresources of nodes.
func allow(t *testing.T, account string, resources ...string) {
	t.Helper()
	clients, err := kubernetes.NewForConfig(testEnv.Config)
	if err != nil {
		t.Fatal(err)
	}
	meta := metav1.ObjectMeta{GenerateName: "node-api-"}
	role, err := clients.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta,
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: resources, Verbs: []string{"get"}}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = clients.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: account}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
