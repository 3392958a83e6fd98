package streams_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/streams"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// backend says what it was asked.
func backend(name string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/redirect":
			http.Redirect(w, r, "/target?x=y", http.StatusFound)
		case "/page":
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<html><head></head><body><a href="/target">x</a></body></html>`)
		case "/fail":
			http.Error(w, "short and stout", http.StatusTeapot)
		default:
			w.Header().Set("X-Backend", name)
			fmt.Fprintf(w, "%s %s %s %s", name, r.Method, r.URL.RequestURI(), body)
		}
	}))
}

// withBackends puts a Pod with two declared ports and a Service before it.
func withBackends(t *testing.T) *front {
	t.Helper()
	f := newFront(t)
	for address, name := range map[string]string{"10.244.0.5:8080": "main", "10.244.0.5:9090": "other", "10.244.0.5:80": "default", "10.244.0.6:8080": "second"} {
		server := backend(name)
		t.Cleanup(server.Close)
		f.Place(address, server)
	}
	p := pod("p", "a", "b")
	p.Spec.Containers[1].Ports = []corev1.ContainerPort{{ContainerPort: 8080}, {ContainerPort: 9090}}
	f.PutPod(p)
	f.PutPod(pod("bare", "c"))
	second := pod("second", "c")
	second.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.6"}}
	f.PutPod(second)
	f.Put("/namespaces/default/services/web", service("web", corev1.ServicePort{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}, corev1.ServicePort{Name: "admin", Port: 81}))
	e := endpoints("web", corev1.EndpointAddress{IP: "10.244.0.5", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}})
	e.Subsets[0].NotReadyAddresses = []corev1.EndpointAddress{{IP: "10.244.0.6", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "second"}}}
	e.Subsets[0].Ports = []corev1.EndpointPort{{Name: "http", Port: 8080}, {Name: "admin", Port: 9090}}
	f.Put("/namespaces/default/endpoints/web", e)
	return f
}

func TestProxyFindsItsWay(t *testing.T) {
	const (
		pods     = "/api/v1/namespaces/default/pods/"
		services = "/api/v1/namespaces/default/services/"
	)
	f := withBackends(t)
	for name, test := range map[string]struct{ method, path, want string }{
		"a Pod's first declared port":          {"GET", pods + "p/proxy/", "main GET / "},
		"a port of a Pod":                      {"GET", pods + "p:9090/proxy/a/b", "other GET /a/b "},
		"a scheme and a port of a Pod":         {"GET", pods + "http:p:9090/proxy/", "other GET / "},
		"a Pod that declares none":             {"GET", pods + "bare/proxy/x", "default GET /x "},
		"a slash at the end stays":             {"GET", pods + "p/proxy/a/", "main GET /a/ "},
		"a query stays":                        {"GET", pods + "p/proxy/a?b=c&d=%26", "main GET /a?b=c&d=%26 "},
		"a method and a body stay":             {"PUT", pods + "p/proxy/a", "main PUT /a body"},
		"PATCH does":                           {"PATCH", pods + "p/proxy/a", "main PATCH /a body"},
		"DELETE does":                          {"DELETE", pods + "p/proxy/a", "main DELETE /a body"},
		"OPTIONS does":                         {"OPTIONS", pods + "p/proxy/a", "main OPTIONS /a body"},
		"a Service by the name of a port":      {"GET", services + "web:http/proxy/", "main GET / "},
		"a Service by the number of a port":    {"GET", services + "web:80/proxy/", "main GET / "},
		"a Service's other port":               {"GET", services + "web:81/proxy/", "other GET / "},
		"a Service with a scheme":              {"GET", services + "http:web:admin/proxy/deep/path", "other GET /deep/path "},
		"a Service with a scheme and a number": {"POST", services + "http:web:80/proxy/", "main POST / body"},
	} {
		t.Run(name, func(t *testing.T) {
			var body io.Reader
			if test.method != "GET" {
				body = strings.NewReader("body")
			}
			r, err := http.NewRequestWithContext(t.Context(), test.method, f.url+test.path, body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err != nil || string(got) != test.want {
				t.Errorf("got %d %q, %v; want %q", response.StatusCode, got, err, test.want)
			}
		})
	}
}

// TestOnlyReadyEndpointsAreChosen: many times, for the choice is random.
func TestOnlyReadyEndpointsAreChosen(t *testing.T) {
	f := withBackends(t)
	for range 20 {
		if code, body := f.ask(t, "GET", "/api/v1/namespaces/default/services/web:http/proxy/", nil); code != 200 || body != "main GET / " {
			t.Fatalf("got %d %q, want the one that is ready", code, body)
		}
	}
	both := endpoints("web",
		corev1.EndpointAddress{IP: "10.244.0.5", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}},
		corev1.EndpointAddress{IP: "10.244.0.6", TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "second"}})
	f.Put("/namespaces/default/endpoints/web", both)
	var seen []string
	eventually(t, "both endpoints were chosen", func() bool {
		_, body := f.ask(t, "GET", "/api/v1/namespaces/default/services/web/proxy/", nil)
		if name, _, _ := strings.Cut(body, " "); !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
		return len(seen) == 2
	})
	slices.Sort(seen)
	if diff := cmp.Diff([]string{"main", "second"}, seen); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

// TestProxiedPagesLeadBack: redirects and links go through the gateway again.
func TestProxiedPagesLeadBack(t *testing.T) {
	f := withBackends(t)
	const base = "/api/v1/namespaces/default/pods/p/proxy"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+base+"/redirect", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := response.Header.Get("Location"), base+"/target?x=y"; response.StatusCode != http.StatusFound || got != want {
		t.Errorf("got %d to %s, want %s", response.StatusCode, got, want)
	}
	if _, body := f.ask(t, "GET", base+"/page", nil); !strings.Contains(body, `href="`+base+`/target"`) {
		t.Errorf("the page is %s", body)
	}
	if code, body := f.ask(t, "GET", base+"/fail", nil); code != http.StatusTeapot || body != "short and stout\n" {
		t.Errorf("got %d %q, want the backend's own answer", code, body)
	}
	r, err = http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+base+"?a=b", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err = http.DefaultTransport.RoundTrip(r); err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if got, want := response.Header.Get("Location"), base+"/?a=b"; response.StatusCode != http.StatusMovedPermanently || got != want {
		t.Errorf("without a path: got %d to %s, want %s", response.StatusCode, got, want)
	}
}

func TestCredentialsStayInTheGateway(t *testing.T) {
	f := newFront(t)
	seen := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	t.Cleanup(server.Close)
	f.Place("10.244.0.5:80", server)
	f.PutPod(pod("p", "c"))
	f.ask(t, "GET", "/api/v1/namespaces/default/pods/p/proxy/", http.Header{
		"Authorization": {"Bearer x"}, "Impersonate-User": {"u"}, "Impersonate-Extra-A": {"e"}, "X-Remote-User": {"u"},
		"Sec-Websocket-Protocol": {"a, base64url.bearer.authorization.k8s.io.c2VjcmV0, b"}, "X-Own": {"kept"}, "Cookie": {"kept=1"},
	})
	got := <-seen
	for _, name := range []string{"Authorization", "Impersonate-User", "Impersonate-Extra-A", "X-Remote-User"} {
		if got.Get(name) != "" {
			t.Errorf("the backend saw %s: %s", name, got.Get(name))
		}
	}
	for name, want := range map[string]string{"X-Own": "kept", "Cookie": "kept=1", "Sec-Websocket-Protocol": "a, b"} {
		if got.Get(name) != want {
			t.Errorf("the backend saw %s: %q, want %q", name, got.Get(name), want)
		}
	}
}

func TestUpgradesGoThroughAProxy(t *testing.T) {
	f := newFront(t)
	closed := make(chan struct{})
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		kind, words, err := conn.ReadMessage()
		if err == nil {
			_ = conn.WriteMessage(kind, []byte(r.URL.RequestURI()+" "+string(words)))
		}
		_, _, _ = conn.ReadMessage()
		close(closed)
	}))
	t.Cleanup(server.Close)
	f.Place("10.244.0.5:80", server)
	f.PutPod(pod("p", "c"))
	location := f.path("/api/v1/namespaces/default/pods/p/proxy/chat")
	location.Scheme = "ws"
	dialer := websocket.Dialer{Subprotocols: []string{"chat"}}
	conn, response, err := dialer.Dial(location.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.ReadMessage(); err != nil || string(got) != "/chat hello" || conn.Subprotocol() != "chat" {
		t.Errorf("got %q in %q, %v", got, conn.Subprotocol(), err)
	}
	f.stop()
	if _, _, err := conn.ReadMessage(); err == nil {
		t.Error("the connection stands though the gateway stopped")
	}
	within(t, "the backend's connection is closed", closed)
}

// TestNodeProxy: without a port, or with the agent's, the agent sees the gateway; on
// another port it is nobody's business who asks.
func TestNodeProxy(t *testing.T) {
	f := newFront(t)
	f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.TLS.PeerCertificates[0].Subject.CommonName, r.Method, r.URL.RequestURI())
	}))
	other := backend("other")
	t.Cleanup(other.Close)
	f.Place("10.9.0.1:9100", other)
	for path, want := range map[string]string{
		"n/proxy/pods":               "keelson:gateway GET /pods",
		"n:10250/proxy/stats?a=b":    "keelson:gateway GET /stats?a=b",
		"https:n:10250/proxy/a/":     "keelson:gateway GET /a/",
		"http:n:9100/proxy/metrics":  "other GET /metrics ",
		"n:9100/proxy/metrics?x=%20": "other GET /metrics?x=%20 ",
	} {
		if code, body := f.ask(t, "GET", "/api/v1/nodes/"+path, nil); code != http.StatusOK || body != want {
			t.Errorf("%s: got %d %q, want %q", path, code, body, want)
		}
	}
	if code, body := f.ask(t, "GET", "/api/v1/nodes/n:4711/proxy/", nil); code != http.StatusServiceUnavailable && code != http.StatusInternalServerError {
		t.Errorf("a port where nobody is: got %d %s", code, body)
	}
}

// TestTheProxyTransportDialsNoSpecialAddress: not even when a name resolves to one.
func TestTheProxyTransportDialsNoSpecialAddress(t *testing.T) {
	server := backend("secret")
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+":"+port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := streams.NewProxyTransport().RoundTrip(r)
		if err == nil {
			response.Body.Close()
			t.Errorf("%s answered", host)
			continue
		}
		if !strings.Contains(err.Error(), "address not allowed") {
			t.Errorf("%s: got %v", host, err)
		}
	}
}

// TestReadingIsInTheGatewaysName: who may see a log need not be able to read Pods.
func TestReadingIsInTheGatewaysName(t *testing.T) {
	f := withBackends(t)
	f.ask(t, "GET", "/api/v1/namespaces/default/services/web:80/proxy/", nil)
	want := []string{"services/web", "endpoints/web", "pods/p"}
	var got []string
	for _, seen := range f.Requests() {
		got = append(got, strings.TrimPrefix(seen.Path, "/apis/"+keelsonv1.GroupVersion.String()+"/namespaces/default/"))
		if seen.Identity != upstream.Gateway {
			t.Errorf("%s was read as %v", seen.Path, seen.Identity)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reads (-want +got):\n%s", diff)
	}
}
