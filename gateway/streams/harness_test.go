package streams_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/rest"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/nodes/nodestest"
	"github.com/keelson-dev/keelson/gateway/streams"
)

// patience bounds the wait for what must happen.
const patience = 60 * time.Second

// front is a gateway with nothing but streams, in front of a cluster.
type front struct {
	*nodestest.Cluster
	url string
	// stop ends the context that all requests have, as a gateway that stops does.
	stop    context.CancelFunc
	options streams.Options
}

func newFront(t *testing.T) *front {
	t.Helper()
	cluster := nodestest.New(t)
	locator, err := nodes.New(nodes.Options{Upstream: cluster.Upstream, Transport: cluster.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	return newFrontWith(t, cluster, locator)
}

func newFrontWith(t *testing.T, cluster *nodestest.Cluster, locator *nodes.Locator) *front {
	t.Helper()
	options := streams.Options{
		Upstream:       cluster.Upstream,
		Nodes:          locator,
		ProxyTransport: &http.Transport{DialContext: cluster.Dial},
		WriteError:     writeStatus,
	}
	handler, err := streams.New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	server := httptest.NewUnstartedServer(withRequestInfo(handler))
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(func() {
		stop()
		server.Close()
	})
	return &front{Cluster: cluster, url: server.URL, stop: stop, options: options}
}

// withRequestInfo is the filter that is in front of a gateway.
func withRequestInfo(next http.Handler) http.Handler {
	factory := &request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		info, err := factory.NewRequestInfo(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r.WithContext(request.WithRequestInfo(r.Context(), info)))
	})
}

func writeStatus(w http.ResponseWriter, _ *http.Request, err error) {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	var api apierrors.APIStatus
	if errors.As(err, &api) {
		status = api.Status()
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_ = json.NewEncoder(w).Encode(status)
}

func (f *front) config() *rest.Config { return &rest.Config{Host: f.url} }

func (f *front) path(path string) *url.URL {
	location, err := url.Parse(f.url + path)
	if err != nil {
		panic(err)
	}
	return location
}

// pod is a running Pod with containers of these names on node n.
func pod(name string, containers ...string) *keelsonv1.Pod {
	p := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	p.Spec.NodeName = "n"
	for _, container := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: container})
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.5"}}
	return p
}

func service(name string, ports ...corev1.ServicePort) *keelsonv1.Service {
	s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}
	s.Spec.Ports = ports
	return s
}

// endpoints are addresses that all serve port 8080.
func endpoints(name string, addresses ...corev1.EndpointAddress) *keelsonv1.Endpoints {
	return &keelsonv1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
		Subsets:    []corev1.EndpointSubset{{Addresses: addresses, Ports: []corev1.EndpointPort{{Port: 8080}}}},
	}
}

// session is one command or attachment, as the agent sees it.
type session struct {
	// Path is the request's, such as /exec/default/p/c.
	Path           string
	Command        []string
	Stdin          io.Reader
	Stdout, Stderr io.WriteCloser
	TTY            bool
	Resize         <-chan remotecommand.TerminalSize
}

// agent serves exec, attach and port-forward as a kubelet does, with the libraries of
// one.
type agent struct {
	run func(ctx context.Context, s session) error
	// forward has a data stream of a port.
	forward func(port int32, stream io.ReadWriteCloser) error

	mu      sync.Mutex
	methods []string
	headers []http.Header
}

func (a *agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.methods = append(a.methods, r.Method)
	a.headers = append(a.headers, r.Header.Clone())
	a.mu.Unlock()
	runner := runner{a, r.URL.Path, r.Context()}
	switch {
	case strings.HasPrefix(r.URL.Path, "/exec/"), strings.HasPrefix(r.URL.Path, "/attach/"):
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/exec/") {
			remotecommand.ServeExec(w, r, runner, "", "", "", r.URL.Query()["command"], options, time.Hour, patience, remotecommand.SupportedStreamingProtocols)
			return
		}
		remotecommand.ServeAttach(w, r, runner, "", "", "", options, time.Hour, patience, remotecommand.SupportedStreamingProtocols)
	case strings.HasPrefix(r.URL.Path, "/portForward/"):
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, runner, "", "", options, time.Hour, patience, portforward.SupportedProtocols)
	default:
		http.NotFound(w, r)
	}
}

func (a *agent) seen() ([]string, []http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.methods...), append([]http.Header(nil), a.headers...)
}

type runner struct {
	agent *agent
	path  string
	ctx   context.Context
}

func (r runner) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	return r.agent.run(ctx, session{r.path, command, in, out, err, tty, resize})
}

func (r runner) AttachContainer(ctx context.Context, _, _, _ string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	return r.agent.run(ctx, session{r.path, nil, in, out, err, tty, resize})
}

func (r runner) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	return r.agent.forward(port, stream)
}

// exit ends a command with a code.
type exit int

func (e exit) Error() string   { return "exit status " + strconv.Itoa(int(e)) }
func (e exit) String() string  { return e.Error() }
func (e exit) Exited() bool    { return true }
func (e exit) ExitStatus() int { return int(e) }

// silent is an agent whose commands neither read nor write after a first word; closed
// ends when the connection of the one command does.
func silent(closed chan struct{}) http.Handler {
	a := &agent{run: func(_ context.Context, s session) error {
		fmt.Fprint(s.Stdout, "started")
		<-closed
		return nil
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.ServeHTTP(hooked{w, func(conn net.Conn) net.Conn { return &reporting{Conn: conn, closed: closed} }}, r)
	})
}

// mortal is an agent that runs one command and breaks its connection when die ends.
func mortal(die chan struct{}) http.Handler {
	a := &agent{run: func(_ context.Context, s session) error {
		fmt.Fprint(s.Stdout, "started")
		_, err := io.Copy(io.Discard, s.Stdin)
		return err
	}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.ServeHTTP(hooked{w, func(conn net.Conn) net.Conn {
			go func() {
				<-die
				conn.Close()
			}()
			return conn
		}}, r)
	})
}

// hooked lets a test have the connection that is taken over.
type hooked struct {
	http.ResponseWriter
	take func(net.Conn) net.Conn
}

func (h hooked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	conn = h.take(conn)
	early := make([]byte, buffered.Reader.Buffered())
	if _, err := io.ReadFull(buffered, early); err != nil {
		return nil, nil, err
	}
	in := io.MultiReader(bytes.NewReader(early), conn)
	return conn, bufio.NewReadWriter(bufio.NewReader(in), bufio.NewWriter(conn)), nil
}

// reporting tells when its other end is gone.
type reporting struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (r *reporting) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	if err != nil {
		r.once.Do(func() { close(r.closed) })
	}
	return n, err
}

// Close is what the agent's library does when the other end has said goodbye.
func (r *reporting) Close() error {
	r.once.Do(func() { close(r.closed) })
	return r.Conn.Close()
}

// noticed ends the channel when the client sees the first output.
type noticed struct {
	once  sync.Once
	first chan struct{}
}

func (n *noticed) Write(p []byte) (int, error) {
	if len(p) > 0 {
		n.once.Do(func() { close(n.first) })
	}
	return len(p), nil
}

// eventually waits for condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// within waits for the end of what done tells of.
func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("waited in vain until %s", what)
	}
}
