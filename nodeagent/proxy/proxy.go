// Package proxy makes Services work on this node: it watches Services and their
// endpoints, renders them to iptables rules (package render) and keeps the kernel
// equal to that (package iptables), each IP family by itself.
//
// It never touches a chain that is not its own, and writes nothing before it has
// seen all Services and all endpoints. It keeps no state: after a crash the rules of
// the last run stay in force, and the next run reads them back and writes only the
// difference.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/keelson-dev/keelson/nodeagent/proxy/addresses"
	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/healthcheck"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
	"github.com/keelson-dev/keelson/nodeagent/proxy/runner"
)

// Options configure a Proxy.
type Options struct {
	// Cache delivers Services and endpoints of all namespaces, and the Node called
	// NodeName. The caller starts it.
	Cache cache.Cache
	// NodeName says which endpoints are of this node.
	NodeName string
	// Facts describe the node. ClusterCIDR and ServiceCIDR are required; PodCIDR and
	// NodeIPs may come later through SetNodeFacts. Whether there is IPv6 is decided here.
	Facts model.NodeFacts
	// AwaitHostPorts delays the first write until SetHostPorts was called, so that a
	// restart does not close host ports of Pods that are still being adopted.
	AwaitHostPorts bool

	// PodInterfaces begins the name of every Pod's interface on this machine; on those
	// alone node ports and host ports are open to 127.0.0.1. Empty means on none.
	PodInterfaces string

	// MasqueradeAll gives all traffic to cluster addresses the node's address.
	MasqueradeAll bool
	// NodePortAddresses are the ranges in which the machine's addresses are open for node
	// ports, or "primary" for NodeIPs; empty means all addresses. The meaning is that of
	// kube-proxy's --nodeport-addresses.
	NodePortAddresses []string
	// NoLoopbackNodePorts closes node ports on 127.0.0.0/8.
	NoLoopbackNodePorts bool

	// NameServers are addresses of Services whose clients ask for names by UDP: those of
	// the cluster's DNS. New questions pass by an endpoint that has refused one while
	// another does not refuse.
	NameServers []netip.Addr

	// MinSyncInterval is the shortest time between two writes; changes in between are
	// written together. Default 100ms; the first change after a quiet time is written
	// at once.
	MinSyncInterval time.Duration
	// CheckInterval is how often the kernel's rules are compared with the wanted ones.
	// Default 30s; stretched so that checking costs at most 5% of the time.
	CheckInterval time.Duration

	// IPTables and IP6Tables run the iptables programs; those of the machine by default.
	IPTables, IP6Tables iptables.Executor

	// HealthPortFailed is told when the health check port of a Service cannot be opened;
	// nil for nobody.
	HealthPortFailed func(service types.NamespacedName, port uint16, err error)

	// Registerer receives the proxy's metrics; nil for none.
	Registerer prometheus.Registerer
	// Clock is the source of time; the real one by default.
	Clock clock.Clock
}

// unhealthyAfter is how long changes may wait until load balancers are told to go
// elsewhere; kube-proxy's default.
const unhealthyAfter = time.Minute

// Proxy programs this node for Services and host ports.
type Proxy struct {
	options   Options
	nodePorts nodePortAddresses
	tracker   *model.Tracker
	runner    *runner.Runner
	metrics   *metrics
	// syncers are one for each family, IPv4 first.
	syncers []*syncer

	mu            sync.Mutex
	facts         model.NodeFacts
	zone          string
	hostPorts     []model.HostPort
	hostPortsSet  chan struct{}
	hostPortsOnce sync.Once
	// waiting is since when changes wait to be written, again that of those that came
	// after the present sync began; zero when none do.
	waiting, again time.Time
}

// New returns a proxy that Run starts. The error names the option that is wrong.
func New(o Options) (*Proxy, error) {
	if o.Cache == nil {
		return nil, errors.New("proxy: Cache is required")
	}
	if err := o.Facts.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	nodePorts, err := parseNodePortAddresses(o.NodePortAddresses)
	if err != nil {
		return nil, fmt.Errorf("proxy: NodePortAddresses: %w", err)
	}
	o = withDefaults(o)
	p := &Proxy{
		options: o, nodePorts: nodePorts, tracker: model.NewTracker(o.NodeName, o.Clock.Now()), metrics: newMetrics(),
		facts: o.Facts, hostPortsSet: make(chan struct{}),
	}
	p.addSyncer(model.IPv4, o.IPTables, kernelSysctl{podInterfaces: o.PodInterfaces})
	if o.Facts.HasIPv6() {
		p.addSyncer(model.IPv6, o.IP6Tables, nothingToSet{})
	}
	p.runner = runner.New(runner.Options{
		Sync: p.sync, MinInterval: o.MinSyncInterval, CheckInterval: p.checkInterval,
		MinBackoff: 200 * time.Millisecond, MaxBackoff: 30 * time.Second, Clock: o.Clock,
	})
	if o.Registerer != nil {
		if err := p.metrics.register(o.Registerer, p.tracker); err != nil {
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
	if o.IP6Tables == nil {
		o.IP6Tables = iptables.Commands{Variant: ip6tables}
	}
	return o
}

const ip6tables = "ip6tables"

func (p *Proxy) addSyncer(family model.Family, executor iptables.Executor, s sysctl) {
	p.syncers = append(p.syncers, newSyncer(family, parts{
		executor: executor, clean: conntrack.Clean, sysctl: s, metrics: p.metrics, clock: p.options.Clock, lists: recentLists,
		health: healthcheck.New(healthcheck.Options{Family: family, Healthy: p.Healthy, Failed: p.options.HealthPortFailed}),
	}))
}

// ValidateNodePortAddresses returns an error when Options.NodePortAddresses cannot be
// these.
func ValidateNodePortAddresses(texts []string) error {
	_, err := parseNodePortAddresses(texts)
	return err
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
		p.trigger()
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
		p.trigger()
	}
}

// setZone records the zone of the node, which hints of endpoints refer to.
func (p *Proxy) setZone(zone string) {
	p.mu.Lock()
	changed := p.zone != zone
	p.zone = zone
	p.mu.Unlock()
	if changed {
		p.trigger()
	}
}

// trigger asks for a sync because something has changed.
func (p *Proxy) trigger() {
	now := p.options.Clock.Now()
	p.mu.Lock()
	if p.waiting.IsZero() {
		p.waiting = now
	}
	if p.again.IsZero() {
		p.again = now
	}
	p.mu.Unlock()
	p.runner.Trigger()
}

// Healthy reports whether the rules follow the API: no change waits for longer than a
// minute.
func (p *Proxy) Healthy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting.IsZero() || p.options.Clock.Since(p.waiting) < unhealthyAfter
}

// Run keeps the node's rules until ctx ends; the rules stay in force afterwards. It
// returns an error only when the cache cannot watch what it has to.
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
	klog.FromContext(ctx).V(2).Info("Services and their endpoints are known, writing rules")
	var following sync.WaitGroup
	defer following.Wait()
	if len(p.options.NodePortAddresses) > 0 {
		following.Go(func() {
			if err := addresses.Follow(ctx, p.trigger); err != nil {
				klog.FromContext(ctx).Error(err, "New addresses are noticed at the next check only")
			}
		})
	}
	p.trigger()
	p.runner.Run(ctx)
	for _, s := range p.syncers {
		s.health.Close()
	}
	return nil
}

func (p *Proxy) sync(ctx context.Context, check bool) error {
	p.mu.Lock()
	facts, zone, hostPorts := p.facts, p.zone, p.hostPorts
	p.again = time.Time{}
	p.mu.Unlock()
	changed := p.tracker.TakeChanged()
	in := syncInput{hostPorts: hostPorts, services: changed.Services, triggers: changed.Triggers, check: check}
	var errs []error
	for _, s := range p.syncers {
		var err error
		in.facts, err = p.familyFacts(ctx, s, facts, zone)
		if err != nil {
			in.facts = s.ruleset.Facts() // what was known before; changes are taken in all the same
			errs = append(errs, err)
		}
		errs = append(errs, s.sync(ctx, in))
	}
	err := errors.Join(errs...)
	p.settle(err)
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Failed to bring the rules up to date, will try again")
	}
	return err
}

// settle notes since when changes wait after a sync.
func (p *Proxy) settle(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.waiting = p.again
	case p.waiting.IsZero():
		p.waiting = p.options.Clock.Now()
	}
}

// familyFacts puts together what the rules of a family depend on.
func (p *Proxy) familyFacts(ctx context.Context, s *syncer, node model.NodeFacts, zone string) (render.Facts, error) {
	family := s.family
	facts := render.NewFacts(family, node)
	facts.Node, facts.Zone = p.options.NodeName, zone
	facts.Policy = render.Policy{MasqueradeAll: p.options.MasqueradeAll, NoLoopbackNodePorts: p.options.NoLoopbackNodePorts}
	facts.NameServers = s.nameServers(ctx, p.options.NameServers)
	if !p.nodePorts.restricts(family) {
		return facts, nil
	}
	var machine []netip.Addr
	if !p.nodePorts.primary {
		var err error
		if machine, err = addresses.List(); err != nil {
			return facts, err
		}
	}
	facts.Policy = p.nodePorts.apply(facts.Policy, family, node.NodeIPs, machine)
	return facts, nil
}

// checksShare is how many times longer than a check the time to the next one is.
const checksShare = 20

// checkInterval stretches the interval so that reading the kernel's rules takes at most
// 5% of the time.
func (p *Proxy) checkInterval() time.Duration {
	interval := p.options.CheckInterval
	for _, s := range p.syncers {
		interval = max(interval, checksShare*s.lastFull())
	}
	return interval
}

// Cleanup removes every chain and rule of the proxy from this network namespace.
// No proxy may run in it.
func Cleanup(ctx context.Context) error {
	errs := []error{iptables.Cleanup(ctx, iptables.Commands{})}
	if six := (iptables.Commands{Variant: ip6tables}); six.Installed() { // else nobody can have written any
		errs = append(errs, iptables.Cleanup(ctx, six))
	}
	return errors.Join(errs...)
}
