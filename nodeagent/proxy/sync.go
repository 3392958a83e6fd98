package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/proxy/addresses"
	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/healthcheck"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

// syncInput is what changed since the last sync, and the facts that hold now.
type syncInput struct {
	facts     render.Facts
	hostPorts []model.HostPort
	// services may have ports of both families.
	services []model.Service
	// triggers are when what changed endpoints happened.
	triggers []time.Time
	// check asks to compare the kernel with the wanted rules.
	check bool
}

// healthServer is package healthcheck.
type healthServer interface {
	Sync(ctx context.Context, services map[types.NamespacedName]healthcheck.Service, addresses []netip.Addr) error
	Close()
}

// cleaner deletes stale connections.
type cleaner func(model.Family, *conntrack.Wanted) (int, error)

// parts are what a syncer works with.
type parts struct {
	executor iptables.Executor
	clean    cleaner
	sysctl   sysctl
	health   healthServer
	metrics  *metrics
	// lists is where the kernel shows that it has lists.
	lists string
	clock clock.PassiveClock
}

// syncer brings the kernel's rules of one family to what it was told last. It is used by
// one goroutine, but for lastFull.
type syncer struct {
	parts
	family  model.Family
	driver  *iptables.Driver
	ruleset *render.Ruleset

	started bool
	// notes says whether the kernel can take note of refusals; nil while nobody asked.
	notes *bool
	// failed is set after an error, until a sync succeeds: what is written then was
	// wanted before, and is no repair.
	failed    bool
	hostPorts []model.HostPort
	// healthPorts are those that load balancers ask; healthStale is set until they are
	// served as they should be.
	healthPorts map[types.NamespacedName]healthcheck.Service
	healthStale bool
	// staleUDP is set while connections may have to be forgotten, until it succeeded.
	staleUDP bool
	// triggers wait for the rules that they made necessary.
	triggers []time.Time
	fullTime atomic.Int64
}

func newSyncer(family model.Family, p parts) *syncer {
	return &syncer{
		parts: p, family: family, driver: iptables.NewDriver(p.executor),
		ruleset:     render.NewRuleset(render.Facts{Family: family}),
		healthPorts: map[types.NamespacedName]healthcheck.Service{},
	}
}

// lastFull is how long the last comparison with the kernel took.
func (s *syncer) lastFull() time.Duration { return time.Duration(s.fullTime.Load()) }

// sync takes in the changes and writes them. After an error they are not lost: the next
// call writes them too.
func (s *syncer) sync(ctx context.Context, in syncInput) error {
	start := s.clock.Now()
	s.takeIn(in)
	if in.check {
		s.driver.Invalidate()
	}
	result, err := s.driver.Apply(ctx)
	took := s.clock.Since(start)
	if result.Full && err == nil {
		s.fullTime.Store(int64(took))
	}
	s.metrics.observe(s, result, err, took)
	if err == nil {
		logResult(ctx, s.family, in.check && len(in.services) == 0 && !s.failed, result, took)
		s.metrics.observeTriggers(s.family, s.triggers, s.clock.Now())
		s.triggers = nil
		err = errors.Join(s.sysctl.allowLoopback(ctx, s.wantsLoopback()), s.forgetStale(ctx))
		s.serveHealth(ctx, in.check)
	}
	s.failed = err != nil
	return err
}

// takeIn records what changed; it does no IO.
func (s *syncer) takeIn(in syncInput) {
	if !s.started || !s.ruleset.Facts().Equal(in.facts) {
		s.put(s.ruleset.SetFacts(in.facts))
		s.putHostPorts(in.hostPorts, in.facts)
		s.staleUDP, s.healthStale = true, true
	}
	if !slices.Equal(s.hostPorts, in.hostPorts) {
		s.putHostPorts(in.hostPorts, in.facts)
		s.staleUDP = true
	}
	if !s.started {
		s.driver.SetJumps(render.Jumps(s.family))
		s.started = true
	}
	if len(in.services) == 0 {
		return
	}
	services := make([]model.Service, len(in.services))
	for i, svc := range in.services {
		services[i] = svc.Of(s.family)
		s.putHealth(services[i])
	}
	s.triggers = append(s.triggers, in.triggers...)
	s.staleUDP = s.staleUDP || slices.ContainsFunc(services, s.touchesUDP)
	s.put(s.ruleset.SetServices(services))
}

// touchesUDP reports whether a changed Service has, or had, a UDP port.
func (s *syncer) touchesUDP(svc model.Service) bool {
	udp := func(p model.ServicePort) bool { return p.Protocol == model.UDP }
	return slices.ContainsFunc(svc.Ports, udp) || slices.ContainsFunc(s.ruleset.Service(svc.Name).Ports, udp)
}

func (s *syncer) put(delta render.Delta) {
	s.driver.Set(delta.Set...)
	for _, id := range delta.Remove {
		s.driver.Remove(id.Table, id.Name)
	}
}

func (s *syncer) putHostPorts(ports []model.HostPort, facts render.Facts) {
	wanted := render.HostPortChains(ports, facts)
	for _, old := range render.HostPortChains(s.hostPorts, facts) {
		if !slices.ContainsFunc(wanted, func(c iptables.Chain) bool { return c.Name == old.Name }) {
			s.driver.Remove(old.Table, old.Name)
		}
	}
	s.driver.Set(wanted...)
	s.hostPorts = ports
}

func (s *syncer) putHealth(svc model.Service) {
	old, had := s.healthPorts[svc.Name]
	if svc.HealthCheckPort == 0 {
		delete(s.healthPorts, svc.Name)
		s.healthStale = s.healthStale || had
		return
	}
	now := healthcheck.Service{Port: svc.HealthCheckPort, LocalEndpoints: svc.LocalReady()}
	s.healthPorts[svc.Name] = now
	s.healthStale = s.healthStale || old != now
}

// serveHealth opens and closes health check ports after a change, and tries those again
// that could not be opened at each check. A port that something else has is no reason to
// write rules again.
func (s *syncer) serveHealth(ctx context.Context, check bool) {
	if !s.healthStale && !check {
		return
	}
	var on []netip.Addr
	if facts := s.ruleset.Facts(); facts.SomeNodePortAddresses {
		on = facts.NodePortAddresses
	}
	if err := s.health.Sync(ctx, s.healthPorts, on); err != nil {
		klog.FromContext(ctx).V(2).Info("Some health check ports are not served", "err", err)
	}
	s.healthStale = false
}

// wantsLoopback reports whether something is open on 127.0.0.1.
func (s *syncer) wantsLoopback() bool {
	return !s.ruleset.Facts().NoLoopbackNodePorts || len(s.hostPorts) > 0
}

// forgetStale deletes UDP connections that go to the wrong place; it comes after the
// rules are written, so that what takes their place is right.
func (s *syncer) forgetStale(ctx context.Context) error {
	if !s.staleUDP {
		return nil
	}
	local, err := addresses.List()
	if err != nil {
		return err
	}
	facts := s.ruleset.Facts()
	wanted := conntrack.NewWanted(facts.Cluster, facts.Services, slices.Concat(local, facts.NodeIPs))
	for svc := range s.ruleset.Services {
		wanted.AddService(svc)
	}
	for _, h := range s.hostPorts {
		if h.Of(s.family) {
			wanted.AddHostPort(h)
		}
	}
	start := s.clock.Now()
	n, err := s.clean(s.family, wanted)
	s.metrics.observeConntrack(s.family, n, s.clock.Since(start))
	if err != nil {
		return err
	}
	if n > 0 {
		klog.FromContext(ctx).V(2).Info("Deleted stale UDP connections", "family", s.family.String(), "count", n)
	}
	s.staleUDP = false
	return nil
}

func logResult(ctx context.Context, family model.Family, repair bool, r iptables.Result, took time.Duration) {
	log := klog.FromContext(ctx).WithValues("family", family.String())
	switch {
	case r.Bytes == 0:
		log.V(4).Info("Rules are up to date", "compared", r.Full, "took", took)
	case repair:
		log.Info("Repaired iptables rules that something else had changed",
			"chains", r.Written, "removed", r.Removed, "jumps", r.Jumps, "took", took)
	default:
		log.V(2).Info("Wrote rules", "chains", r.Written, "removed", r.Removed,
			"jumps", r.Jumps, "bytes", r.Bytes, "compared", r.Full, "took", took)
	}
}
