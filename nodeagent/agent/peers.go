package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

// routeError says that Pods of other nodes cannot be reached.
type routeError struct{ error }

// Unwrap makes the cause known.
func (e routeError) Unwrap() error { return e.error }

// peers are all nodes of the cluster as the overlay sees them, fed by a watch.
type peers struct {
	// changed is poked when a node comes, goes or changes in what counts.
	changed chan struct{}

	mu    sync.Mutex
	known bool // all have been listed once
	nodes map[string]overlay.Node
	// told are the problems that the log and the events know.
	told map[overlay.Problem]bool
}

func newPeers() *peers {
	return &peers{changed: make(chan struct{}, 1), nodes: map[string]overlay.Node{}, told: map[overlay.Problem]bool{}}
}

// put notes a node, and says whether that changes anything. A Node's heartbeat does not.
func (p *peers) put(n overlay.Node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.nodes[n.Name]; ok && slices.Equal(old.IPs, n.IPs) && slices.Equal(old.Ranges, n.Ranges) {
		return false
	}
	p.nodes[n.Name] = n
	return true
}

func (p *peers) remove(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.nodes, name)
}

// list returns all nodes; false until they are known.
func (p *peers) list() ([]overlay.Node, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]overlay.Node, 0, len(p.nodes))
	for _, n := range p.nodes {
		all = append(all, n)
	}
	return all, p.known
}

// news returns the problems that were not there before.
func (p *peers) news(problems []overlay.Problem) []overlay.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := map[overlay.Problem]bool{}
	var fresh []overlay.Problem
	for _, problem := range problems {
		if now[problem] = true; !p.told[problem] {
			fresh = append(fresh, problem)
		}
	}
	p.told = now
	return fresh
}

// toPeer reads what the overlay needs of a Node. What cannot be parsed is left out: the
// node is not reachable by it.
func toPeer(n *keelsonv1.Node) overlay.Node {
	peer := overlay.Node{Name: n.Name}
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if a.Type != corev1.NodeInternalIP || err != nil || slices.ContainsFunc(peer.IPs, func(had netip.Addr) bool { return had.Is4() == ip.Is4() }) {
			continue
		}
		peer.IPs = append(peer.IPs, ip)
	}
	for text := range strings.SplitSeq(podCIDRs(n), ",") {
		if p, err := netip.ParsePrefix(text); err == nil && p == p.Masked() && !peer.Ranges.Of(p.Addr()).IsValid() {
			peer.Ranges = append(peer.Ranges, p)
		}
	}
	return peer
}

// stripPeer keeps of a Node what toPeer reads.
func stripPeer(object any) (any, error) {
	n, ok := object.(*keelsonv1.Node)
	if !ok {
		return object, nil // a tombstone
	}
	slim := &keelsonv1.Node{TypeMeta: n.TypeMeta}
	slim.ObjectMeta = metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion}
	slim.Spec.PodCIDR, slim.Spec.PodCIDRs = n.Spec.PodCIDR, n.Spec.PodCIDRs
	slim.Status.Addresses = n.Status.Addresses
	return slim, nil
}

// newPeerCache returns a cache of all Nodes, of each of which it keeps next to nothing.
func (a *api) newPeerCache() (cache.Cache, error) {
	c, err := cache.New(a.config, cache.Options{
		Scheme: a.scheme, Mapper: newMapper(), ReaderFailOnMissingInformer: true,
		DefaultTransform: stripPeer, DefaultUnsafeDisableDeepCopy: new(true),
	})
	if err != nil {
		return nil, fmt.Errorf("building the cache of nodes: %w", err)
	}
	return c, nil
}

// runPeers is followPeers for the list of loops.
func (a *agent) runPeers(ctx context.Context) {
	if err := a.followPeers(ctx); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot follow the nodes of the cluster: their Pods stay as reachable as they are")
	}
}

// followPeers keeps the ways to other nodes until ctx ends. Before all nodes have been
// listed once, none is taken away that an earlier process has made.
func (a *agent) followPeers(ctx context.Context) error {
	nodes, err := a.api.newPeerCache()
	if err != nil {
		return err
	}
	informer, err := nodes.GetInformer(ctx, &keelsonv1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the nodes: %w", err)
	}
	observe := func(object any) {
		if n, ok := object.(*keelsonv1.Node); ok && a.peers.put(toPeer(n)) {
			poke(a.peers.changed)
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, object any) { observe(object) },
		DeleteFunc: func(object any) {
			if name, err := toolscache.DeletionHandlingObjectToName(object); err == nil {
				a.peers.remove(name.Name)
				poke(a.peers.changed)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watching the nodes: %w", err)
	}
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() {
		if err := nodes.Start(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot watch the nodes")
		}
	})
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return nil
	}
	a.peers.mu.Lock()
	a.peers.known = true
	a.peers.mu.Unlock()
	poke(a.peers.changed)
	<-ctx.Done()
	return nil
}

// setPeers makes the Pods of all nodes reachable that are known. It does nothing while
// not all of them are.
func (a *agent) setPeers(ctx context.Context, repair bool) error {
	if a.peers == nil {
		return nil
	}
	nodes, known := a.peers.list()
	if !known {
		return nil
	}
	problems, err := a.network.SetPeers(ctx, nodes, repair)
	if err != nil {
		return routeError{err}
	}
	for _, p := range a.peers.news(problems) {
		klog.FromContext(ctx).Info("Cannot reach the Pods of a node", "node", p.Node, "reason", p.Message)
		a.events.nodeUnreachable(a.settings.name, p)
	}
	return nil
}
