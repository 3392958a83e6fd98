package nodes_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/transport"
	testclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/nodes/nodestest"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

func newLocator(t *testing.T, options nodes.Options) *nodes.Locator {
	t.Helper()
	locator, err := nodes.New(options)
	if err != nil {
		t.Fatal(err)
	}
	return locator
}

func get(t *testing.T, through http.RoundTripper, url string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := through.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), nil
}

func TestLocate(t *testing.T) {
	address := func(kind corev1.NodeAddressType, address string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: kind, Address: address}
	}
	for name, test := range map[string]struct {
		addresses []corev1.NodeAddress
		port      int32
		preferred []corev1.NodeAddressType
		want      string
		wantErr   string
	}{
		"the internal address comes first": {
			addresses: []corev1.NodeAddress{address(corev1.NodeHostName, "a"), address(corev1.NodeExternalIP, "8.8.8.8"), address(corev1.NodeInternalIP, "10.0.0.1")},
			port:      4711,
			want:      "https://10.0.0.1:4711/healthz",
		},
		"a node without an internal address has its external one": {
			addresses: []corev1.NodeAddress{address(corev1.NodeHostName, "a"), address(corev1.NodeExternalIP, "8.8.8.8")},
			port:      4711,
			want:      "https://8.8.8.8:4711/healthz",
		},
		"the port is 10250 where the node does not say": {
			addresses: []corev1.NodeAddress{address(corev1.NodeInternalIP, "10.0.0.1")},
			want:      "https://10.0.0.1:10250/healthz",
		},
		"an IPv6 address is written as URLs have it": {
			addresses: []corev1.NodeAddress{address(corev1.NodeInternalIP, "fd00::1")},
			want:      "https://[fd00::1]:10250/healthz",
		},
		"the preference is a setting": {
			addresses: []corev1.NodeAddress{address(corev1.NodeHostName, "a"), address(corev1.NodeInternalIP, "10.0.0.1")},
			preferred: []corev1.NodeAddressType{corev1.NodeHostName, corev1.NodeInternalIP},
			want:      "https://a:10250/healthz",
		},
		"a node without an address cannot be reached": {
			addresses: []corev1.NodeAddress{address(corev1.NodeInternalDNS, "a.b")},
			wantErr:   "no preferred addresses found; known addresses: [{InternalDNS a.b}]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := nodestest.New(t)
			node := nodestest.Node("n", "")
			node.Status.Addresses = test.addresses
			node.Status.DaemonEndpoints.KubeletEndpoint.Port = test.port
			cluster.Put("/nodes/n", node)
			locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport(), PreferredAddressTypes: test.preferred})
			agent, err := locator.Locate(t.Context(), "n")
			if test.wantErr != "" {
				if err == nil || err.Error() != test.wantErr {
					t.Fatalf("got error %v, want %q", err, test.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := agent.URL("/healthz", nil).String(); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestLocateAsksInTheGatewaysNameAndOnlyForNames(t *testing.T) {
	cluster := nodestest.New(t)
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport()})
	_, err := locator.Locate(t.Context(), "ghost")
	if want := `nodes "ghost" not found`; !apierrors.IsNotFound(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	want := []nodestest.Seen{{Path: "/apis/core.keelson.dev/v1/nodes/ghost", Accept: "application/json", Identity: upstream.Gateway}}
	got := cluster.Requests()
	for i := range got {
		got[i].Query = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	for _, name := range []string{"..", ".", "a/b", "a%2Fb"} {
		if _, err := locator.Locate(t.Context(), name); !apierrors.IsNotFound(err) {
			t.Errorf("Locate(%q): got %v, want not found", name, err)
		}
	}
	if _, err := locator.Locate(t.Context(), ""); !apierrors.IsBadRequest(err) {
		t.Errorf(`Locate(""): got %v, want a bad request`, err)
	}
	if extra := cluster.Requests()[1:]; len(extra) > 0 {
		t.Errorf("names that are paths reached the API server: %v", extra)
	}
}

func TestLocateForgetsAfterAWhile(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.Put("/nodes/n", nodestest.Node("n", "10.0.0.1"))
	clock := testclock.NewFakePassiveClock(time.Unix(0, 0))
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport(), Clock: clock, TTL: time.Minute})
	locate := func() string {
		agent, err := locator.Locate(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		return agent.Host
	}
	locate()
	cluster.Put("/nodes/n", nodestest.Node("n", "10.0.0.2"))
	clock.SetTime(time.Unix(59, 0))
	if got := locate(); got != "10.0.0.1" {
		t.Errorf("within its time the address is %s, want the one that was read", got)
	}
	clock.SetTime(time.Unix(60, 0))
	if got := locate(); got != "10.0.0.2" {
		t.Errorf("after its time the address is %s, want the new one", got)
	}
}

func TestLocateForgetsAnAddressThatRefuses(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.Put("/nodes/n", nodestest.Node("n", "10.77.0.1"))
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport(), TTL: time.Hour})
	agent, err := locator.Locate(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	cluster.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "moved") }))
	if _, err := get(t, agent.Transport(), agent.URL("/", nil).String()); err == nil {
		t.Fatal("an address where nobody is answered")
	}
	if agent, err = locator.Locate(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, agent.Transport(), agent.URL("/", nil).String()); err != nil || got != "moved" {
		t.Errorf("got %q, %v after the node moved", got, err)
	}
}

func TestAgentsAreVerified(t *testing.T) {
	cluster := nodestest.New(t)
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	cluster.AddAgent("good", hello)
	cluster.AddAgent("bad", hello)
	other := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "unverified") }))
	other.TLS = &tls.Config{Certificates: []tls.Certificate{nodestest.NewCA(t).Serving(t, "10.9.0.2")}}
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	other.StartTLS()
	t.Cleanup(other.Close)
	cluster.Place("10.9.0.2:10250", other)

	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport()})
	for _, test := range []struct {
		node, want string
		unverified bool
		wantErr    string
	}{
		{node: "good", want: "keelson:gateway"},
		{node: "bad", wantErr: "certificate signed by unknown authority"},
		{node: "bad", unverified: true, want: "unverified"},
	} {
		agent, err := locator.Locate(t.Context(), test.node)
		if err != nil {
			t.Fatal(err)
		}
		through := agent.Transport()
		if test.unverified {
			through = agent.UnverifiedTransport()
		}
		got, err := get(t, through, agent.URL("/", nil).String())
		switch {
		case test.wantErr == "" && (err != nil || got != test.want):
			t.Errorf("%+v: got %q, %v", test, got, err)
		case test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
			t.Errorf("%+v: got error %v", test, err)
		}
	}
}

func TestAClientCertificateIsReadAgainWhenItChanges(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	dir := t.TempDir()
	files := transport.TLSConfig{
		CAFile: filepath.Join(dir, "ca"), CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), ReloadTLSFiles: true,
	}
	write := func(name string) {
		t.Helper()
		certificate, key := cluster.CA.Client(t, name)
		for file, content := range map[string][]byte{files.CAFile: cluster.CA.PEM(), files.CertFile: certificate, files.KeyFile: key} {
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write("first")
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: &transport.Config{TLS: files, DialHolder: &transport.DialHolder{Dial: cluster.Dial}}})
	agent, err := locator.Locate(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		// Each upgrade dials anew, so it shows the certificate of now. The library closes
		// all connections when it sees a new one, that of the moment included.
		conn, err := proxy.DialURL(t.Context(), agent.URL("/", nil), agent.UpgradeTransport())
		if err != nil {
			return err.Error()
		}
		answer, _ := ask(conn, "GET / HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
		return answer[strings.LastIndex(answer, "\n")+1:]
	}
	if got := shown(); got != "first" {
		t.Fatalf("the agent saw %q, want the certificate of the file", got)
	}
	write("second")
	for deadline := time.Now().Add(10 * time.Second); shown() != "second"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the agent still sees the certificate that the file had before")
		}
	}
}

func ask(conn net.Conn, request string) (string, error) {
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func TestTokensReachAgentsEveryWay(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.AddTokenAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header.Values("Authorization"), "|"))
	}))
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.TokenTransport("secret")})
	agent, err := locator.Locate(t.Context(), "n")
	if err != nil {
		t.Fatal(err)
	}
	const want = "Bearer secret"
	if got, err := get(t, agent.Transport(), agent.URL("/", nil).String()); err != nil || got != want {
		t.Errorf("a request showed %q, %v", got, err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, agent.URL("/", nil).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if request, err = agent.UpgradeTransport().WrapRequest(request); err != nil || request.Header.Get("Authorization") != want {
		t.Errorf("an upgrade showed %q, %v", request.Header.Get("Authorization"), err)
	}
	location, through := agent.Dialable(agent.URL("/", nil))
	conn, err := proxy.DialURL(t.Context(), location, through)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ask(conn, "GET / HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
	if err != nil || !strings.HasSuffix(answer, want) {
		t.Errorf("a dialled connection showed %q, %v", answer, err)
	}
}

func TestImpersonationStopsAtAgents(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.Put("/nodes/n", nodestest.Node("n", "10.0.0.1"))
	config := cluster.Transport()
	config.Impersonate.UserName = "somebody"
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: config})
	if _, err := locator.Locate(t.Context(), "n"); !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want forbidden: the agent would see the one who impersonates", err)
	}
}

func TestLocateSaysWhatTheAPIServerSaid(t *testing.T) {
	cluster := nodestest.New(t)
	cluster.Put("/nodes/odd", "not a node")
	locator := newLocator(t, nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport()})
	if _, err := locator.Locate(t.Context(), "odd"); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `read node "odd": decode the API server's answer`) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("gone"))
	if _, err := locator.Locate(ctx, "n"); !apierrors.IsInternalError(err) {
		t.Errorf("got %v, want an internal error", err)
	}
}

func TestNewSaysWhatIsMissing(t *testing.T) {
	cluster := nodestest.New(t)
	for want, options := range map[string]nodes.Options{
		"Options.Upstream is missing":  {Transport: cluster.Transport()},
		"Options.Transport is missing": {Upstream: cluster.Upstream},
		"unable to load root certificates": {Upstream: cluster.Upstream, Transport: &transport.Config{
			TLS: transport.TLSConfig{CAData: []byte("nonsense")},
		}},
	} {
		if _, err := nodes.New(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
