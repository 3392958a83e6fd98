// Package nodestest gives tests an API server that holds a few objects, and node agents
// behind TLS, all on loopback. Addresses such as 10.9.0.1 exist in its dialer only, so
// that tests can use the addresses that real nodes and Pods have.
package nodestest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/transport"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// Cluster is an API server and the agents of its nodes.
type Cluster struct {
	Upstream *upstream.Client
	CA       *CA

	t       testing.TB
	mu      sync.Mutex
	objects map[string][]byte
	seen    []Seen
	places  map[string]string
	nodes   int
}

// Seen is one request that reached the API server.
type Seen struct {
	Path     string
	Query    url.Values
	Accept   string
	Identity upstream.Identity
}

// New starts an API server without objects.
func New(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{CA: NewCA(t), t: t, objects: map[string][]byte{}, places: map[string]string{}}
	server := httptest.NewServer(http.HandlerFunc(c.serveAPI))
	t.Cleanup(server.Close)
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.Upstream = upstream.New(base, recorder{c, &http.Transport{}})
	return c
}

type recorder struct {
	cluster *Cluster
	next    http.RoundTripper
}

func (r recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	r.cluster.mu.Lock()
	r.cluster.seen = append(r.cluster.seen, Seen{
		Path:     request.URL.Path,
		Query:    request.URL.Query(),
		Accept:   request.Header.Get("Accept"),
		Identity: upstream.IdentityFrom(request.Context()),
	})
	r.cluster.mu.Unlock()
	return r.next.RoundTrip(request)
}

func (c *Cluster) serveAPI(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	object, ok := c.objects[r.URL.Path]
	c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		object = []byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"not found"}`)
	}
	_, _ = w.Write(object)
}

// Put makes the API server answer path, below the group of Keelson's core kinds, with
// object.
func (c *Cluster) Put(path string, object any) {
	c.t.Helper()
	body, err := json.Marshal(object)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects["/apis/"+keelsonv1.GroupVersion.String()+path] = body
}

// Remove makes the API server know nothing of path.
func (c *Cluster) Remove(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.objects, "/apis/"+keelsonv1.GroupVersion.String()+path)
}

// PutPod makes the API server know a Pod.
func (c *Cluster) PutPod(pod *keelsonv1.Pod) {
	c.t.Helper()
	c.Put("/namespaces/"+pod.Namespace+"/pods/"+pod.Name, pod)
}

// Requests are those that reached the API server until now.
func (c *Cluster) Requests() []Seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Seen(nil), c.seen...)
}

// Place makes Dial of address reach the listener of server.
func (c *Cluster) Place(address string, server *httptest.Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places[address] = server.Listener.Addr().String()
}

// Dial opens connections to what was placed, and to nothing else.
func (c *Cluster) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	place, ok := c.places[address]
	c.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("dial %s %s: no such place", network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, place)
}

// AddAgent starts the agent of a new node, which asks for a client certificate of the
// cluster and for none other, and returns the Node.
func (c *Cluster) AddAgent(name string, handler http.Handler) (*keelsonv1.Node, *httptest.Server) {
	c.t.Helper()
	return c.addAgent(name, handler, tls.RequireAndVerifyClientCert)
}

// AddTokenAgent starts the agent of a new node that lets in who has no certificate; its
// handler looks at tokens.
func (c *Cluster) AddTokenAgent(name string, handler http.Handler) (*keelsonv1.Node, *httptest.Server) {
	c.t.Helper()
	return c.addAgent(name, handler, tls.NoClientCert)
}

func (c *Cluster) addAgent(name string, handler http.Handler, clients tls.ClientAuthType) (*keelsonv1.Node, *httptest.Server) {
	c.t.Helper()
	c.nodes++
	node := Node(name, "10.9.0."+strconv.Itoa(c.nodes))
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{c.CA.Serving(c.t, node.Status.Addresses[0].Address)},
		ClientAuth:   clients,
		ClientCAs:    c.CA.Pool(),
	}
	server.EnableHTTP2 = true
	server.StartTLS()
	c.t.Cleanup(server.Close)
	c.Place(net.JoinHostPort(node.Status.Addresses[0].Address, "10250"), server)
	c.Put("/nodes/"+name, node)
	return node, server
}

// Node is a Node with one internal address and an agent on port 10250.
func Node(name, address string) *keelsonv1.Node {
	node := &keelsonv1.Node{
		TypeMeta:   metav1.TypeMeta{Kind: "Node", APIVersion: keelsonv1.GroupVersion.String()},
		ObjectMeta: metav1.ObjectMeta{Name: name},
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	return node
}

// Transport is how a gateway reaches the agents: with a client certificate, verified.
func (c *Cluster) Transport() *transport.Config {
	c.t.Helper()
	certificate, key := c.CA.Client(c.t, "keelson:gateway")
	return &transport.Config{
		TLS:        transport.TLSConfig{CAData: c.CA.PEM(), CertData: certificate, KeyData: key},
		DialHolder: &transport.DialHolder{Dial: c.Dial},
	}
}

// TokenTransport is Transport with a token in the place of the certificate.
func (c *Cluster) TokenTransport(token string) *transport.Config {
	return &transport.Config{
		BearerToken: token,
		TLS:         transport.TLSConfig{CAData: c.CA.PEM()},
		DialHolder:  &transport.DialHolder{Dial: c.Dial},
	}
}
