package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

func TestPodsReachEachOtherAndTheNodeUnmasked(t *testing.T) {
	k := newKernelTest(t)
	a, b := k.pod("a"), k.pod("b")
	k.serve(a.NetNSPath, 8080)
	k.serve(b.NetNSPath, 8080)
	k.serve("", 9090)

	k.wantSeen(a.NetNSPath, at(b.IP, 8080), a.IP.String())
	k.wantSeen(b.NetNSPath, at(a.IP, 8080), b.IP.String())
	k.wantSeen(a.NetNSPath, at(a.IP, 8080), a.IP.String())
	k.wantSeen(a.NetNSPath, "127.0.0.1:8080", "127.0.0.1")
	k.wantSeen("", at(a.IP, 8080), a.Gateway.String())
	k.wantSeen(a.NetNSPath, at(a.Gateway, 9090), a.IP.String())
}

// A reply between two Pods of a node must pass the rules that changed the request's
// destination, whether bridged packets are shown to iptables or not.
func TestServiceTranslationWorks(t *testing.T) {
	for _, bridgeNetfilter := range []string{"1", "0"} {
		t.Run("with bridge-nf-call-iptables="+bridgeNetfilter, func(t *testing.T) {
			k := newKernelTest(t)
			if err := setIfKnown(netlinkx.New(), "net/bridge/bridge-nf-call-iptables", bridgeNetfilter); err != nil {
				t.Fatal(err)
			}
			a, b := k.pod("a"), k.pod("b")
			k.serve(b.NetNSPath, 8080)
			for _, chain := range []string{"PREROUTING", "OUTPUT"} {
				k.iptables("nat", chain, "-d", "10.254.0.9/32", "-p", "tcp", "--dport", "80", "-j", "DNAT", "--to-destination", at(b.IP, 8080))
			}
			k.iptables("nat", "POSTROUTING", "-s", b.IP.String(), "-d", b.IP.String(), "-j", "MASQUERADE")

			k.wantSeen(a.NetNSPath, "10.254.0.9:80", a.IP.String())
			k.wantSeen(b.NetNSPath, "10.254.0.9:80", b.Gateway.String())
			k.wantSeen("", "10.254.0.9:80", b.Gateway.String())
		})
	}
}

func TestNothingForUnusedAddressesLeavesTheNode(t *testing.T) {
	k := newKernelTest(t)
	a := k.pod("a")
	k.greedyGateway(80)
	k.wantSeen(a.NetNSPath, "198.51.100.7:80", a.IP.String()) // the gateway does answer for anything
	k.wantSeen("", "198.51.100.7:80", "192.0.2.2")

	var wg sync.WaitGroup
	for _, from := range []string{"", a.NetNSPath} {
		for _, to := range []string{"10.244.0.77:80", "10.244.9.9:80", "10.254.0.77:80"} {
			wg.Go(func() {
				if seen, err := k.dial(from, to); err == nil {
					t.Errorf("from %q to %s: somebody answered and saw %q", filepath.Base(from), to, seen)
				} else if !errors.Is(err, unix.EHOSTUNREACH) {
					t.Errorf("from %q to %s: %v; want it answered as unreachable", filepath.Base(from), to, err)
				}
			})
		}
	}
	wg.Wait()
}

func TestPodCannotUseAnothersAddress(t *testing.T) {
	k := newKernelTest(t)
	a, b := k.pod("a"), k.pod("b")
	var server net.PacketConn
	err := k.in(b.NetNSPath, func() (err error) {
		server, err = net.ListenPacket("udp4", "0.0.0.0:53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()

	stolen := netip.MustParseAddr("10.244.0.200")
	err = netlinkx.New().InNamespace(a.NetNSPath, func(h netlinkx.Handle) error {
		eth, err := h.Link(podLink)
		if err != nil {
			return err
		}
		if err := h.ReplaceAddr(netlinkx.Addr{Link: eth.Index, Prefix: netip.PrefixFrom(stolen, 32)}); err != nil {
			return err
		}
		for _, source := range []netip.Addr{stolen, a.IP} {
			dialer := net.Dialer{LocalAddr: &net.UDPAddr{IP: source.AsSlice()}}
			conn, err := dialer.Dial("udp4", at(b.IP, 53))
			if err != nil {
				return err
			}
			if _, err := conn.Write([]byte("hello")); err != nil {
				return err
			}
			if err := conn.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Packets keep their order: were the first let through, it would be read here.
	if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, from, err := server.ReadFrom(make([]byte, 16))
	if err != nil || from.(*net.UDPAddr).AddrPort().Addr() != a.IP {
		t.Errorf("the first packet came from %v, %v; want one from the Pod's own address %s", from, err, a.IP)
	}
}

func TestPodInterfaceIsAsPromised(t *testing.T) {
	k := newKernelTest(t)
	k.cfg.MTU = 1234
	k.restart()
	a := k.pod("a")
	if a.MTU != 1234 || a.Gateway != netip.MustParseAddr("10.244.0.1") {
		t.Errorf("got %+v; want MTU 1234 and the range's first address as gateway", a)
	}
	check := func(h netlinkx.Handle, name string) error {
		l, err := h.Link(name)
		if err != nil {
			return err
		}
		if !l.Up || l.MTU != 1234 {
			t.Errorf("interface %+v; want it up with MTU 1234", l)
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if v6, err := netlink.AddrList(link, netlink.FAMILY_V6); err != nil || len(v6) > 0 {
			t.Errorf("interface %s has IPv6 addresses %v, %v; want none", name, v6, err)
		}
		return nil
	}
	if err := check(netlinkx.New(), linkName("uid-a")); err != nil {
		t.Error(err)
	}
	if err := netlinkx.New().InNamespace(a.NetNSPath, func(h netlinkx.Handle) error { return check(h, podLink) }); err != nil {
		t.Error(err)
	}
}

func TestRestartedAgentFindsItsPods(t *testing.T) {
	k := newKernelTest(t)
	a, b := k.pod("a"), k.pod("b")
	k.serve(b.NetNSPath, 8080)
	if err := os.WriteFile(filepath.Join(k.net.leaseDir(), a.IP.String()+".json"), []byte("{torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(k.net.leaseDir(), b.IP.String()+".json")); err != nil {
		t.Fatal(err)
	}

	k.restart()
	for name, want := range map[string]PodNetwork{"a": a, "b": b} {
		if got, ok := k.net.Lookup(ref(name).UID); !ok || got != want {
			t.Errorf("Lookup(%s) = %+v, %v; want %+v", name, got, ok, want)
		}
		if got := k.pod(name); got != want {
			t.Errorf("Setup(%s) = %+v; want %+v", name, got, want)
		}
	}
	if c := k.pod("c"); c.IP == a.IP || c.IP == b.IP {
		t.Errorf("a new Pod got the address %s of a running one", c.IP)
	}
	k.wantSeen(a.NetNSPath, at(b.IP, 8080), a.IP.String())
}

func TestSetupRepairs(t *testing.T) {
	damages := map[string]func(p PodNetwork) error{
		"a lost interface": func(PodNetwork) error { return netlinkx.New().DeleteLink(linkName("uid-a")) },
		"a lost namespace": func(p PodNetwork) error { return netlinkx.New().DeleteNamespace(p.NetNSPath) },
		"a namespace's file that nothing is bound to": func(p PodNetwork) error {
			return errors.Join(netlinkx.New().DeleteNamespace(p.NetNSPath), os.WriteFile(p.NetNSPath, nil, 0o444))
		},
		"a lost route": func(p PodNetwork) error {
			l, err := netlinkx.New().Link(linkName("uid-a"))
			return errors.Join(err, netlinkx.New().DeleteRoute(netlinkx.Route{Dst: netip.PrefixFrom(p.IP, 32), Link: l.Index, Protocol: routeProtocol}))
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			k := newKernelTest(t)
			a, b := k.pod("a"), k.pod("b")
			k.serve(b.NetNSPath, 8080)
			if err := damage(a); err != nil {
				t.Fatal(err)
			}
			if got := k.pod("a"); got != a {
				t.Errorf("got %+v; want what it had, %+v", got, a)
			}
			k.wantSeen(a.NetNSPath, at(b.IP, 8080), a.IP.String())
		})
	}
}

// A process that stays in a namespace keeps it and its interface alive after the file
// is unbound; a new namespace of the Pod must not share the old pair.
func TestSetupReplacesThePairOfANamespaceThatLivesOn(t *testing.T) {
	k := newKernelTest(t)
	a, b := k.pod("a"), k.pod("b")
	k.serve(b.NetNSPath, 8080)
	k.serve(a.NetNSPath, 7070) // the listener is what stays
	if err := netlinkx.New().DeleteNamespace(a.NetNSPath); err != nil {
		t.Fatal(err)
	}
	if got := k.pod("a"); got != a {
		t.Errorf("got %+v; want %+v", got, a)
	}
	k.wantSeen(a.NetNSPath, at(b.IP, 8080), a.IP.String())
	if _, err := k.dial("", at(a.IP, 7070)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("dialling the old namespace's server: %v; want it refused by the new one", err)
	}
}

func TestHundredPodsAtOnce(t *testing.T) {
	k := newKernelTest(t)
	const pods = 100
	var wg sync.WaitGroup
	var mu sync.Mutex
	byIP := map[netip.Addr]types.UID{}
	each := func(f func(name string) error) time.Duration {
		start := time.Now()
		for i := range pods {
			wg.Go(func() {
				if err := f(fmt.Sprintf("p%d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return time.Since(start)
	}
	took := each(func(name string) error {
		p, err := k.net.Setup(t.Context(), ref(name))
		mu.Lock()
		defer mu.Unlock()
		if other, twice := byIP[p.IP]; twice {
			t.Errorf("%s: both %s and %s", p.IP, other, name)
		}
		byIP[p.IP] = ref(name).UID
		return err
	})
	again := each(func(name string) error {
		p, err := k.net.Setup(t.Context(), ref(name))
		if byIP[p.IP] != ref(name).UID {
			t.Errorf("%s got %s the second time, which belongs to %s", name, p.IP, byIP[p.IP])
		}
		return err
	})
	down := each(func(name string) error { return k.net.Teardown(t.Context(), ref(name).UID) })
	t.Logf("100 Pods in parallel: set up in %v, again in %v, torn down in %v", took, again, down)

	s, err := k.net.snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if left := podAddresses(s); len(left) > 0 {
		t.Errorf("routes of Pods were left: %v", left)
	}
	if left := k.net.current.Load().ipam.Leases(); len(left) > 0 {
		t.Errorf("leases were left: %v", left)
	}
}

func BenchmarkSetupAndTeardown(b *testing.B) {
	if os.Getenv(inNamespaceEnv) == "" {
		b.Skip("needs root and CAP_SYS_ADMIN to make network namespaces")
	}
	cfg := DefaultConfig()
	cfg.StateDir, cfg.NetNSDir = b.TempDir(), filepath.Join(b.TempDir(), "netns")
	n := New(cfg)
	if err := n.Configure(b.Context(), podRange); err != nil {
		b.Fatal(err)
	}
	var up, down time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := n.Setup(b.Context(), ref("bench")); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		if err := n.Teardown(b.Context(), ref("bench").UID); err != nil {
			b.Fatal(err)
		}
		up, down = up+middle.Sub(start), down+time.Since(middle)
	}
	b.ReportMetric(float64(up.Microseconds())/float64(b.N), "µs/setup")
	b.ReportMetric(float64(down.Microseconds())/float64(b.N), "µs/teardown")
	if err := n.Remove(b.Context()); err != nil {
		b.Fatal(err)
	}
}
