package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

var (
	dualRange = ranges.MustParse("10.244.0.0/24,fd00:10:244::/64")
	peerB     = overlay.Node{Name: "b", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")}, Ranges: ranges.MustParse("10.244.1.0/24,fd00:10:244:1::/64")}
	peerC     = overlay.Node{Name: "c", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::3")}, Ranges: ranges.MustParse("10.244.2.0/24,fd00:10:244:2::/64")}
)

// newDualMachine is a node of two families with a LAN.
func newDualMachine(t *testing.T, mode overlay.Mode) *machine {
	t.Helper()
	m := newMachine(t)
	m.cfg.ClusterCIDRs, m.cfg.ServiceCIDRs = lanDual, ranges.MustParse("10.254.0.0/16,fd00:10:254::/112")
	m.cfg.NodeName, m.cfg.Overlay = "a", mode
	m.cfg.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	link := m.kernel.AddDevice(netlinkx.Link{Name: "lan0", MTU: 1500, Up: true},
		netlinkx.Addr{Prefix: netip.MustParsePrefix("192.0.2.1/24")}, netlinkx.Addr{Prefix: netip.MustParsePrefix("2001:db8::1/64")})
	for _, network := range []string{"192.0.2.0/24", "2001:db8::/64"} {
		if err := m.kernel.ReplaceRoute(netlinkx.Route{Dst: netip.MustParsePrefix(network), Link: link, Protocol: 2}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *machine) startDual() *Network {
	m.Helper()
	n := New(m.cfg)
	if err := n.Configure(m.Context(), dualRange); err != nil {
		m.Fatal(err)
	}
	return n
}

func setPeers(nodes ...overlay.Node) func(context.Context, *Network) error {
	return func(ctx context.Context, n *Network) error {
		problems, err := n.SetPeers(ctx, nodes, false)
		if err == nil && len(problems) > 0 {
			return errors.New(problems[0].Message)
		}
		return err
	}
}

func TestEveryActionOfTwoFamiliesConvergesAfterAFailureAtEveryCall(t *testing.T) {
	with := func(actions ...func(context.Context, *Network) error) func(*machine) *Network {
		return func(m *machine) *Network {
			n := m.startDual()
			for _, action := range actions {
				if err := action(m.Context(), n); err != nil {
					m.Fatal(err)
				}
			}
			return n
		}
	}
	setup := func(ctx context.Context, n *Network) error { _, err := n.Setup(ctx, ref("a")); return err }
	remove := func(ctx context.Context, n *Network) error { return n.Remove(ctx) }
	stories := map[string]struct {
		prepare func(*machine) *Network
		action  func(context.Context, *Network) error
		// again is what a restarted process does first.
		again func(*machine) *Network
	}{
		"configure":    {func(m *machine) *Network { return New(m.cfg) }, func(ctx context.Context, n *Network) error { return n.Configure(ctx, dualRange) }, func(m *machine) *Network { return New(m.cfg) }},
		"set up":       {with(), setup, with()},
		"tear down":    {with(setup), func(ctx context.Context, n *Network) error { return n.Teardown(ctx, ref("a").UID) }, with()},
		"first peers":  {with(), setPeers(peerB, peerC), with()},
		"one went":     {with(setPeers(peerB, peerC)), setPeers(peerC), with()},
		"one moved":    {with(setPeers(peerB)), setPeers(overlay.Node{Name: "b", IPs: peerC.IPs, Ranges: peerB.Ranges}), with()},
		"one of other": {with(setPeers(peerB)), setPeers(overlay.Node{Name: "b", IPs: peerB.IPs, Ranges: peerC.Ranges}), with()},
		"remove":       {with(setup, setPeers(peerB)), remove, func(m *machine) *Network { return New(m.cfg) }},
	}
	for name, story := range stories {
		for _, mode := range []overlay.Mode{overlay.VXLAN, overlay.HostGW} {
			undisturbed := newDualMachine(t, mode)
			if err := story.action(t.Context(), story.prepare(undisturbed)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Run(name+", "+string(mode)+", by the same process", func(t *testing.T) {
				m := newDualMachine(t, mode)
				n := story.prepare(m)
				m.untilItWorks(func() error { return story.action(t.Context(), n) }, func() {})
				m.wantLike(undisturbed)
			})
			t.Run(name+", "+string(mode)+", by a restarted process", func(t *testing.T) {
				m := newDualMachine(t, mode)
				n := story.prepare(m)
				m.untilItWorks(func() error { return story.action(t.Context(), n) }, func() { n = story.again(m) })
				m.wantLike(undisturbed)
			})
		}
	}
}

// calls are what the kernel was asked while f ran.
func (m *machine) calls(f func() error) []string {
	m.Helper()
	before := len(m.kernel.Calls())
	if err := f(); err != nil {
		m.Fatal(err)
	}
	return m.kernel.Calls()[before:]
}

func TestOnlyTheDifferenceReachesTheKernel(t *testing.T) {
	m := newDualMachine(t, overlay.VXLAN)
	n := m.startDual()
	if err := setPeers(peerB)(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if calls := m.calls(func() error { return setPeers(peerB)(t.Context(), n) }); len(calls) > 0 {
		t.Errorf("nothing changed, and the kernel was asked %q", calls)
	}
	want := []string{"SetForwarding 0a:4d:0a:f4:02:00", "SetNeighbour 10.244.2.1", "SetNeighbour fd00:10:244:2::1", "ReplaceRoute 10.244.2.0/24", "ReplaceRoute fd00:10:244:2::/64"}
	if diff := cmp.Diff(want, m.calls(func() error { return setPeers(peerB, peerC)(t.Context(), n) })); diff != "" {
		t.Errorf("one node came (-want +got):\n%s", diff)
	}
	writes := slices.DeleteFunc(m.calls(func() error { _, err := n.SetPeers(t.Context(), []overlay.Node{peerC, peerB}, true); return err }), func(call string) bool {
		return !strings.HasPrefix(call, "Set") && !strings.HasPrefix(call, "Replace") && !strings.HasPrefix(call, "Delete") && !strings.HasPrefix(call, "AddV") || strings.HasPrefix(call, "SetSysctl")
	})
	if len(writes) > 0 {
		t.Errorf("nothing was to be repaired, and the kernel was told %q", writes)
	}
}

func TestTheLastNodeNeedsNoTunnel(t *testing.T) {
	m := newDualMachine(t, overlay.VXLAN)
	n := m.startDual()
	alone := m.kernel.State()
	for _, nodes := range [][]overlay.Node{nil, {peerB}, {peerB, peerC}, nil} {
		if err := setPeers(nodes...)(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	if calls := m.calls(func() error { return setPeers()(t.Context(), n) }); len(calls) > 0 {
		t.Errorf("nothing changed, and the kernel was asked %q", calls)
	}
	if _, err := n.SetPeers(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(alone, m.kernel.State()); diff != "" {
		t.Errorf("the last node (-before others came +after they went):\n%s", diff)
	}
	if err := setPeers(peerB)(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := m.kernel.VXLAN(overlay.Interface); err != nil {
		t.Errorf("another node came back: %v", err)
	}
}

func TestPodsOfTwoFamilies(t *testing.T) {
	m := newDualMachine(t, overlay.None)
	n := m.startDual()
	p, err := n.Setup(t.Context(), ref("a"))
	if err != nil {
		t.Fatal(err)
	}
	want := []netip.Addr{netip.MustParseAddr("10.244.0.2"), netip.MustParseAddr("fd00:10:244::2")}
	if !slices.Equal(p.IPs(), want) || p.Gateway6.String() != "fd00:10:244::1" {
		t.Errorf("got %v, gateway %s; want %v", p.IPs(), p.Gateway6, want)
	}
	if again, ok := m.startDual().Lookup(ref("a").UID); !ok || again != p {
		t.Errorf("after a restart: %+v, %v; want %+v", again, ok, p)
	}
	m.cfg.ClusterCIDRs = ranges.MustParse("fd00:10:244::/56,10.244.0.0/16")
	slices.Reverse(want)
	if again, _ := m.startDual().Lookup(ref("a").UID); !slices.Equal(again.IPs(), want) {
		t.Errorf("with IPv6 as the primary family: %v, want %v", again.IPs(), want)
	}
	for _, path := range m.leaseFiles() {
		m.removeFile(path)
	}
	if again, ok := m.startDual().Lookup(ref("a").UID); !ok || !slices.Equal(again.IPs(), want) {
		t.Errorf("with its lease lost: %v, %v; want %v", again.IPs(), ok, want)
	}
}

func TestPodsFromBeforeIPv6KeepOneAddress(t *testing.T) {
	m := newDualMachine(t, overlay.None)
	n := New(m.cfg)
	if err := n.Configure(t.Context(), ranges.MustParse("10.244.0.0/24")); err != nil {
		t.Fatal(err)
	}
	old, err := n.Setup(t.Context(), ref("old"))
	if err != nil {
		t.Fatal(err)
	}
	n = m.startDual()
	again, err := n.Setup(t.Context(), ref("old"))
	if err != nil || again != old || len(again.IPs()) != 1 {
		t.Errorf("the Pod from before: %+v, %v; want %+v", again, err, old)
	}
	fresh, err := n.Setup(t.Context(), ref("new"))
	if err != nil || len(fresh.IPs()) != 2 {
		t.Errorf("a new Pod: %+v, %v; want two addresses", fresh, err)
	}
}

func TestIPv6ForwardingKeepsTheWayOut(t *testing.T) {
	m := newDualMachine(t, overlay.None)
	m.startDual()
	if state := strings.Join(m.kernel.State(), "\n"); !strings.Contains(state, "net/ipv6/conf/all/forwarding=1") {
		t.Errorf("the machine forwards no IPv6:\n%s", state)
	}
}

func (m *machine) removeFile(path string) {
	m.Helper()
	if err := os.Remove(path); err != nil {
		m.Fatal(err)
	}
}
