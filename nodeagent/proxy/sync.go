package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

// syncInput is what changed since the last sync, and the facts that hold now.
type syncInput struct {
	facts     model.NodeFacts
	hostPorts []model.HostPort
	services  []model.Service
	// check asks to compare the kernel with the wanted rules.
	check bool
}

// syncer brings the kernel to what it was told last. It is used by one goroutine, but
// for lastFull.
type syncer struct {
	driver  *iptables.Driver
	ruleset *render.Ruleset
	clean   func(*conntrack.Wanted) (int, error)
	sysctl  sysctl
	metrics *metrics
	clock   clock.PassiveClock

	started bool
	// failed is set after an error, until a sync succeeds: what is written then was
	// wanted before, and is no repair.
	failed    bool
	facts     model.NodeFacts
	hostPorts []model.HostPort
	// staleUDP is set while connections may have to be forgotten, until it succeeded.
	staleUDP bool
	fullTime atomic.Int64
}

func newSyncer(
	facts model.NodeFacts, executor iptables.Executor, clean func(*conntrack.Wanted) (int, error),
	s sysctl, m *metrics, c clock.PassiveClock,
) *syncer {
	return &syncer{
		driver: iptables.NewDriver(executor), ruleset: render.NewRuleset(facts),
		clean: clean, sysctl: s, metrics: m, clock: c,
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
	s.metrics.observe(result, err, took, s.driver.Rules(), s.clock.Now())
	if err == nil {
		logResult(ctx, in.check && len(in.services) == 0 && !s.failed, result, took)
		err = errors.Join(s.sysctl.allowLoopback(ctx), s.forgetStale(ctx))
	}
	s.failed = err != nil
	return err
}

// takeIn records what changed; it does no IO.
func (s *syncer) takeIn(in syncInput) {
	if !s.started || !s.facts.Equal(in.facts) {
		s.put(s.ruleset.SetFacts(in.facts))
		s.facts = in.facts
		s.staleUDP = true
	}
	if !s.started || !slices.Equal(s.hostPorts, in.hostPorts) {
		s.putHostPorts(in.hostPorts)
		s.staleUDP = true
	}
	if !s.started {
		s.driver.SetJumps(render.Jumps())
		s.started = true
	}
	if len(in.services) == 0 {
		return
	}
	s.staleUDP = s.staleUDP || slices.ContainsFunc(in.services, s.touchesUDP)
	s.put(s.ruleset.SetServices(in.services))
}

// touchesUDP reports whether a changed Service has, or had, a UDP port.
func (s *syncer) touchesUDP(svc model.Service) bool {
	udp := func(p model.ServicePort) bool { return p.Protocol == model.UDP }
	return slices.ContainsFunc(svc.Ports, udp) || slices.ContainsFunc(s.ruleset.Service(svc.Name).Ports, udp)
}

func (s *syncer) put(delta render.Delta) {
	s.driver.Set(delta.Set...)
	for _, name := range delta.Remove {
		s.driver.Remove(iptables.NAT, name)
	}
}

func (s *syncer) putHostPorts(ports []model.HostPort) {
	wanted := render.HostPortChains(render.UsableHostPorts(ports))
	for _, old := range render.HostPortChains(render.UsableHostPorts(s.hostPorts)) {
		if !slices.ContainsFunc(wanted, func(c iptables.Chain) bool { return c.Name == old.Name }) {
			s.driver.Remove(old.Table, old.Name)
		}
	}
	s.driver.Set(wanted...)
	s.hostPorts = ports
}

// forgetStale deletes UDP connections that go to the wrong place; it comes after the
// rules are written, so that what takes their place is right.
func (s *syncer) forgetStale(ctx context.Context) error {
	if !s.staleUDP {
		return nil
	}
	local, err := localAddresses()
	if err != nil {
		return err
	}
	wanted := conntrack.NewWanted(s.facts, local)
	for svc := range s.ruleset.Services {
		wanted.AddService(svc)
	}
	for _, h := range s.hostPorts {
		wanted.AddHostPort(h)
	}
	n, err := s.clean(wanted)
	s.metrics.forgotten.Add(float64(n))
	if err != nil {
		return err
	}
	if n > 0 {
		klog.FromContext(ctx).V(2).Info("Deleted stale UDP connections", "count", n)
	}
	s.staleUDP = false
	return nil
}

// localAddresses returns the IPv4 addresses of this network namespace.
func localAddresses() ([]netip.Addr, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addresses {
		if ipnet, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(ipnet.IP); ok && ip.Unmap().Is4() {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}

func logResult(ctx context.Context, repair bool, r iptables.Result, took time.Duration) {
	log := klog.FromContext(ctx)
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
