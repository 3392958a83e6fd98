// Package proxy makes Services work on this node: it watches Services and
// Endpoints, renders them to iptables rules (package render) and keeps the kernel
// equal to that (package iptables).
//
// It never touches a chain that is not its own, and writes nothing before it has
// seen all Services and all Endpoints. It keeps no state: after a crash the rules of
// the last run stay in force, and the next run reads them back and writes only the
// difference.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/runner"
)

// Options configure a Proxy.
type Options struct {
	// Cache delivers Services and Endpoints of all namespaces. The caller starts it.
	Cache cache.Cache
	// Facts describe the node. ClusterCIDR and ServiceCIDR are required; PodCIDR and
	// NodeIPs may come later through SetNodeFacts.
	Facts model.NodeFacts
	// AwaitHostPorts delays the first write until SetHostPorts was called, so that a
	// restart does not close host ports of Pods that are still being adopted.
	AwaitHostPorts bool

	// PodInterfaces begins the name of every Pod's interface on this machine; on those
	// alone node ports and host ports are open to 127.0.0.1. Empty means on none.
	PodInterfaces string

	// MinSyncInterval is the shortest time between two writes; changes in between are
	// written together. Default 100ms; the first change after a quiet time is written
	// at once.
	MinSyncInterval time.Duration
	// CheckInterval is how often the kernel's rules are compared with the wanted ones.
	// Default 30s; stretched so that checking costs at most 1% of the time.
	CheckInterval time.Duration

	// IPTables runs the iptables programs; those of the machine by default.
	IPTables iptables.Executor

	// Registerer receives the proxy's metrics; nil for none.
	Registerer prometheus.Registerer
	// Clock is the source of time; the real one by default.
	Clock clock.Clock
}

// Proxy programs this node for Services and host ports.
type Proxy struct {
	options Options
	tracker *model.Tracker
	runner  *runner.Runner
	metrics *metrics
	syncer  *syncer

	mu            sync.Mutex
	facts         model.NodeFacts
	hostPorts     []model.HostPort
	hostPortsSet  chan struct{}
	hostPortsOnce sync.Once
}

// New returns a proxy that Run starts. The error names the option that is wrong.
func New(o Options) (*Proxy, error) {
	if o.Cache == nil {
		return nil, errors.New("proxy: Cache is required")
	}
	if err := o.Facts.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	o = withDefaults(o)
	p := &Proxy{
		options: o, tracker: model.NewTracker(), metrics: newMetrics(),
		facts: o.Facts, hostPortsSet: make(chan struct{}),
	}
	p.syncer = newSyncer(o.Facts, o.IPTables, conntrack.Clean, kernelSysctl{podInterfaces: o.PodInterfaces}, p.metrics, o.Clock)
	p.runner = runner.New(runner.Options{
		Sync: p.sync, MinInterval: o.MinSyncInterval, CheckInterval: p.checkInterval,
		MinBackoff: 200 * time.Millisecond, MaxBackoff: 30 * time.Second, Clock: o.Clock,
	})
	if o.Registerer != nil {
		if err := p.metrics.register(o.Registerer); err != nil {
			return nil, fmt.Errorf("proxy: registering metrics: %w", err)
		}
	}
	return p, nil
}

func withDefaults(o Options) Options {
	o.MinSyncInterval = cmp.Or(o.MinSyncInterval, 100*time.Millisecond)
	o.CheckInterval = cmp.Or(o.CheckInterval, 30*time.Second)
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.IPTables == nil {
		o.IPTables = iptables.Commands{}
	}
	return o
}

// SetNodeFacts replaces what is known of the node, such as the Pod range once the
// manager has given one. It may be called at any time; an error leaves the old facts.
func (p *Proxy) SetNodeFacts(facts model.NodeFacts) error {
	if err := facts.Validate(); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	facts.NodeIPs = slices.Clone(facts.NodeIPs)
	p.mu.Lock()
	changed := !p.facts.Equal(facts)
	p.facts = facts
	p.mu.Unlock()
	if changed {
		p.runner.Trigger()
	}
	return nil
}

// SetHostPorts replaces the host ports of all Pods of this node.
func (p *Proxy) SetHostPorts(ports []model.HostPort) {
	ports = slices.SortedFunc(slices.Values(ports), model.HostPort.Compare)
	p.mu.Lock()
	changed := !slices.Equal(p.hostPorts, ports)
	p.hostPorts = ports
	p.mu.Unlock()
	p.hostPortsOnce.Do(func() { close(p.hostPortsSet) })
	if changed {
		p.runner.Trigger()
	}
}

// Run keeps the node's rules until ctx ends; the rules stay in force afterwards. It
// returns an error only when the cache cannot watch Services or Endpoints.
func (p *Proxy) Run(ctx context.Context) error {
	// When the context has ended the caches may have stopped first: no error.
	if err := p.watch(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if p.options.AwaitHostPorts {
		select {
		case <-ctx.Done():
		case <-p.hostPortsSet:
		}
	}
	select {
	case <-ctx.Done():
		return nil
	default:
	}
	klog.FromContext(ctx).V(2).Info("Services and Endpoints are known, writing rules")
	p.runner.Trigger()
	p.runner.Run(ctx)
	return nil
}

func (p *Proxy) sync(ctx context.Context, check bool) error {
	p.mu.Lock()
	in := syncInput{facts: p.facts, hostPorts: p.hostPorts, check: check}
	p.mu.Unlock()
	in.services = p.tracker.TakeChanged()
	err := p.syncer.sync(ctx, in)
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Failed to bring the rules up to date, will try again")
	}
	return err
}

// checkInterval stretches the interval so that reading the kernel's rules takes at most
// 1% of the time.
func (p *Proxy) checkInterval() time.Duration {
	return max(p.options.CheckInterval, 100*p.syncer.lastFull())
}

// Cleanup removes every chain and rule of the proxy from this network namespace.
// No proxy may run in it.
func Cleanup(ctx context.Context) error {
	return iptables.Cleanup(ctx, iptables.Commands{})
}
