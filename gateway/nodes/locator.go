package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/client-go/transport"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

const (
	// DefaultPort is where an agent serves when its Node does not say.
	DefaultPort = 10250
	// DefaultTTL is how long the address of a node is believed.
	DefaultTTL = 5 * time.Second

	nodesPath = "/apis/core.keelson.dev/v1/nodes"
)

// Options say where Nodes are read and how agents are reached.
type Options struct {
	// Upstream reaches the API server that holds the Nodes.
	Upstream *upstream.Client
	// Transport says how agents are reached: the certificate authority of their serving
	// certificates, the client certificate or token of the gateway. TLS.Insecure skips
	// the verification. Files are read again when they change, if its TLS.ReloadTLSFiles
	// and TLS.ReloadCAFiles say so. Its DialHolder, if any, opens the connections.
	Transport *transport.Config
	// PreferredAddressTypes are tried in this order; InternalIP, ExternalIP, Hostname
	// when empty.
	PreferredAddressTypes []corev1.NodeAddressType
	// Port is taken when a Node does not say; 0 is DefaultPort.
	Port int32
	// TTL is how long the address of a node is believed; 0 is DefaultTTL.
	TTL time.Duration
	// Clock is real time but in tests.
	Clock clock.PassiveClock
}

// Locator finds the agents of nodes. It is safe for concurrent use.
type Locator struct {
	upstream  *upstream.Client
	preferred []corev1.NodeAddressType
	port      int32
	ttl       time.Duration
	clock     clock.PassiveClock

	verified, unverified *carrier
	// impersonates: agents cannot be told of it, so they are not asked.
	impersonates bool

	mu    sync.Mutex
	known map[string]entry
}

type entry struct {
	agent *Agent
	until time.Time
}

// New makes a Locator. It fails when the files or the certificates of
// Options.Transport cannot be used.
func New(options Options) (*Locator, error) {
	switch {
	case options.Upstream == nil:
		return nil, errors.New("locate nodes: Options.Upstream is missing: nothing says where the API server is")
	case options.Transport == nil:
		return nil, errors.New("locate nodes: Options.Transport is missing: nothing says how agents are reached")
	}
	l := &Locator{
		upstream:  options.Upstream,
		preferred: options.PreferredAddressTypes,
		port:      options.Port,
		ttl:       options.TTL,
		clock:     options.Clock,
		known:     map[string]entry{},
	}
	l.impersonates = impersonates(options.Transport.Impersonate)
	if len(l.preferred) == 0 {
		l.preferred = []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeHostName}
	}
	if l.port == 0 {
		l.port = DefaultPort
	}
	if l.ttl == 0 {
		l.ttl = DefaultTTL
	}
	if l.clock == nil {
		l.clock = clock.RealClock{}
	}
	var err error
	if l.verified, err = newCarrier(options.Transport, false, l.forgetAddress); err != nil {
		return nil, fmt.Errorf("make the transport to the node agents: %w", err)
	}
	if l.unverified, err = newCarrier(options.Transport, true, l.forgetAddress); err != nil {
		return nil, fmt.Errorf("make the transport to the node agents that skips verification: %w", err)
	}
	return l, nil
}

// Locate returns the agent of the node of this name. The error is a Status of the API:
// NotFound when there is no such node, else what an API server answers when it cannot
// tell where a kubelet is.
func (l *Locator) Locate(ctx context.Context, name string) (*Agent, error) {
	if known, ok := l.lookup(name); ok {
		return known, nil
	}
	node, err := l.get(ctx, name)
	if err != nil {
		return nil, err
	}
	agent, err := l.Agent(node)
	if err != nil {
		return nil, err
	}
	l.remember(name, agent)
	return agent, nil
}

// Agent returns the agent of a node that the caller has read already.
func (l *Locator) Agent(node *corev1.Node) (*Agent, error) {
	host, err := preferredAddress(node, l.preferred)
	if err != nil {
		return nil, err
	}
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if port <= 0 {
		port = l.port
	}
	if l.impersonates {
		return nil, apierrors.NewForbidden(corev1.Resource("nodes"), node.Name, errors.New(
			"node agents do not know impersonation, and the request would reach them with the rights of the one who impersonates: leave out --as, --as-group and --as-uid"))
	}
	return &Agent{
		Node:     node.Name,
		Host:     host,
		Port:     strconv.Itoa(int(port)),
		Features: node.Status.DeclaredFeatures,
		locator:  l,
	}, nil
}

func impersonates(as transport.ImpersonationConfig) bool {
	return as.UserName != "" || as.UID != "" || len(as.Groups) > 0 || len(as.Extra) > 0
}

// preferredAddress chooses among the addresses of a node, in upstream's words
// (pkg/util/node) when there is none to choose.
func preferredAddress(node *corev1.Node, preferred []corev1.NodeAddressType) (string, error) {
	for _, kind := range preferred {
		for _, address := range node.Status.Addresses {
			if address.Type == kind {
				return address.Address, nil
			}
		}
	}
	return "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

func (l *Locator) lookup(name string) (*Agent, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	known, ok := l.known[name]
	if !ok || !l.clock.Now().Before(known.until) {
		return nil, false
	}
	return known.agent, true
}

// remember keeps the address of a node for a while, and drops what is too old, so that
// names of nodes that are gone do not add up.
func (l *Locator) remember(name string, agent *Agent) {
	now := l.clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for other, known := range l.known {
		if !now.Before(known.until) {
			delete(l.known, other)
		}
	}
	l.known[name] = entry{agent: agent, until: now.Add(l.ttl)}
}

// forgetAddress is told of every address that refused a connection.
func (l *Locator) forgetAddress(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, known := range l.known {
		if net.JoinHostPort(known.agent.Host, known.agent.Port) == address {
			delete(l.known, name)
		}
	}
}

// get reads one Node in the gateway's name.
func (l *Locator) get(ctx context.Context, name string) (*corev1.Node, error) {
	if name == "" {
		return nil, apierrors.NewBadRequest("Name parameter required.")
	}
	if len(content.IsPathSegmentName(name)) > 0 {
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	response, err := l.upstream.Do(upstream.AsGateway(ctx), upstream.Request{
		Method: http.MethodGet,
		Path:   nodesPath + "/" + url.PathEscape(name),
		Header: http.Header{"Accept": {"application/json"}},
	})
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read node %q: %w", name, err))
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusNotFound {
		return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
	}
	if response.StatusCode != http.StatusOK {
		return nil, apierrors.NewInternalError(fmt.Errorf("read node %q: %s", name, upstream.Refusal(response)))
	}
	node := &keelsonv1.Node{}
	if err := json.NewDecoder(response.Body).Decode(node); err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read node %q: decode the API server's answer: %w", name, err))
	}
	return node.Upstream(), nil
}
