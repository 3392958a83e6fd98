// Package announce lets one node of the cluster answer for each address of a load
// balancer that Keelson gave away (controllers/loadbalancer): the one that holds the
// address's Lease has the address on the interface of its own.
//
// It announces nothing but addresses of the pool that its own flag names. A node that
// dies, hangs or is cut off loses its addresses by the kernel's clock before another
// takes them (heldaddr); after a crash there is nothing to recover. It writes to the
// API only where there is such an address, and then its Lease.
package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// Options configure an Announcer. All but Clock are required.
type Options struct {
	// Pool are the addresses that may be announced.
	Pool addrpool.Pool
	// NodeName is this node's, and its name in Leases.
	NodeName string
	// Cache delivers the Services and EndpointSlices of all namespaces; the caller starts
	// it. Nodes delivers all Nodes; Run starts it.
	Cache, Nodes cache.Cache
	// Leases is how Leases are written.
	Leases coordinationclient.LeasesGetter
	// Addresses holds addresses on this machine.
	Addresses addresses
	// Clock is the source of time; the real one by default.
	Clock clock.PassiveClock
}

// Announcer stands for the addresses that this node is a candidate for.
type Announcer struct {
	options Options
	changed chan struct{}

	mu      sync.Mutex
	members map[string]member
}

// New returns an announcer that Run starts.
func New(o Options) *Announcer {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Announcer{options: o, changed: make(chan struct{}, 1), members: map[string]member{}}
}

// Run works until ctx ends, and has given all addresses up when it returns.
func (a *Announcer) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() {
		if err := a.options.Nodes.Start(ctx); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot watch the nodes")
		}
	})
	synced, err := a.watch(ctx)
	if err != nil {
		return errors.Join(err, ctx.Err())
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	var electors sync.WaitGroup
	defer electors.Wait()
	standing := map[netip.Addr]*stander{}
	for {
		wanted, err := a.wanted(ctx)
		if err != nil {
			return err
		}
		a.adjust(ctx, standing, wanted, &electors)
		select {
		case <-ctx.Done():
			return nil
		case <-a.changed:
		}
	}
}

// stander stands for one address until stop, and some time after it.
type stander struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// adjust lets this node stand for the wanted addresses and no other. One that is given
// up and wanted again is stood for when it has been given up: ends poke the loop.
func (a *Announcer) adjust(ctx context.Context, standing map[netip.Addr]*stander, wanted []netip.Addr, electors *sync.WaitGroup) {
	for addr, s := range standing {
		if !slices.Contains(wanted, addr) {
			s.stop()
		}
		select {
		case <-s.ended:
			delete(standing, addr)
		default:
		}
	}
	for _, addr := range wanted {
		if standing[addr] != nil {
			continue
		}
		one, stop := context.WithCancel(ctx)
		s := &stander{stop: stop, ended: make(chan struct{})}
		standing[addr] = s
		electors.Go(func() {
			defer a.poke()
			defer close(s.ended)
			defer stop()
			a.stand(one, addr)
		})
	}
}

// wanted returns the addresses that this node is a candidate for, in order.
func (a *Announcer) wanted(ctx context.Context) ([]netip.Addr, error) {
	var services keelsonv1.ServiceList
	if err := a.options.Cache.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var wanted []netip.Addr
	for i := range services.Items {
		service := &services.Items[i]
		own := addressesOf(service, a.options.Pool)
		if len(own) == 0 {
			continue
		}
		var local map[string]bool
		if isLocal(service) {
			var all discoveryv1.EndpointSliceList
			err := a.options.Cache.List(ctx, &all, client.InNamespace(service.Namespace),
				client.MatchingLabels{upstreamdiscoveryv1.LabelServiceName: service.Name}, client.UnsafeDisableDeepCopy)
			if err != nil {
				return nil, fmt.Errorf("listing the EndpointSlices of Service %s/%s: %w", service.Namespace, service.Name, err)
			}
			local = endpointNodes(all.Items)
		}
		for _, addr := range own {
			if slices.Contains(candidates(addr, a.members, local), a.options.NodeName) {
				wanted = append(wanted, addr)
			}
		}
	}
	slices.SortFunc(wanted, netip.Addr.Compare)
	return slices.Compact(wanted), nil
}
