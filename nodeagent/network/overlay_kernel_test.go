package network

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

// lan is a bridge in the test's namespace that joins nodes in namespaces of their own.
type lan struct {
	*testing.T
	k     *kernelTest
	mode  overlay.Mode
	nodes []*lanNode
}

type lanNode struct {
	name, path string
	ips        []netip.Addr
	ranges     ranges.List
	cfg        Config
	net        *Network
	pod        PodNetwork
}

const lanMTU = 1500

var (
	lanSingle = ranges.MustParse("10.244.0.0/16")
	lanDual   = ranges.MustParse("10.244.0.0/16,fd00:10:244::/56")
)

// newLAN starts a node for each name, with a Pod on each.
func newLAN(t *testing.T, mode overlay.Mode, cluster ranges.List, names ...string) *lan {
	t.Helper()
	if os.Getenv(inNamespaceEnv) == "" {
		t.Skip("needs root and CAP_SYS_ADMIN to make network namespaces")
	}
	l := &lan{T: t, k: &kernelTest{T: t}, mode: mode}
	must(t, netlinkx.New().AddBridge(netlinkx.Bridge{Name: "lan", MTU: lanMTU, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	t.Cleanup(func() { must(t, netlinkx.New().DeleteLink("lan")) })
	bridge, err := netlinkx.New().Link("lan")
	must(t, err)
	must(t, netlinkx.New().SetUp(bridge.Index))
	for i, name := range names {
		l.nodes = append(l.nodes, l.plugIn(name, i+1, cluster))
	}
	for _, n := range l.nodes {
		l.start(n)
	}
	l.tellAll()
	return l
}

// plugIn makes a machine with the addresses 192.0.2.N and 2001:db8::N.
func (l *lan) plugIn(name string, number int, cluster ranges.List) *lanNode {
	l.Helper()
	kernel, dir := netlinkx.New(), l.TempDir()
	n := &lanNode{name: name, path: filepath.Join(dir, "node")}
	must(l.T, kernel.CreateNamespace(n.path))
	must(l.T, kernel.AddVeth(netlinkx.Veth{Name: "to-" + name, PeerName: "lan0", PeerNS: n.path, MTU: lanMTU}))
	port, err := netlink.LinkByName("to-" + name)
	must(l.T, err)
	bridge, err := netlink.LinkByName("lan")
	must(l.T, err)
	must(l.T, errors.Join(netlink.LinkSetMaster(port, bridge), netlink.LinkSetUp(port)))
	l.Cleanup(func() { l.unplug(n) })

	n.ranges = ranges.List{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(number), 0}), 24)}
	if cluster.V6().IsValid() {
		n.ranges = append(n.ranges, netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%x::/64", number)))
	}
	l.address(n, number)
	n.cfg = DefaultConfig()
	n.cfg.ClusterCIDRs, n.cfg.NodeName, n.cfg.Overlay = cluster, name, l.mode
	if cluster.V6().IsValid() {
		n.cfg.ServiceCIDRs = ranges.MustParse("10.254.0.0/16,fd00:10:254::/112")
	}
	n.cfg.StateDir, n.cfg.NetNSDir = filepath.Join(dir, "state"), filepath.Join(dir, "netns")
	return n
}

// unplug cleans the node up, which must leave nothing, and takes it away.
func (l *lan) unplug(n *lanNode) {
	l.Helper()
	l.on(n, func() error {
		if err := New(n.cfg).Remove(context.WithoutCancel(l.Context())); err != nil {
			return err
		}
		for _, line := range leftovers(l.T, n.cfg) {
			if isOurs := strings.Contains(line, "keelson0") || strings.Contains(line, PodInterfacePrefix) || strings.Contains(line, "10.244.") || strings.Contains(line, "fd00:"); isOurs {
				l.Errorf("Remove on node %s left: %s", n.name, line)
			}
		}
		return nil
	})
	kernel := netlinkx.New()
	must(l.T, errors.Join(kernel.DeleteLink("to-"+n.name), kernel.DeleteNamespace(n.path)))
}

// address gives a machine the addresses with this number in place of those it has.
func (l *lan) address(n *lanNode, number int) {
	l.Helper()
	err := netlinkx.New().InNamespace(n.path, func(h netlinkx.Handle) error {
		lo, err := h.Link("lo")
		if err != nil {
			return err
		}
		eth, err := h.Link("lan0")
		if err != nil {
			return err
		}
		errs := []error{h.SetUp(lo.Index), h.SetUp(eth.Index), h.SetSysctl("net/ipv4/conf/all/rp_filter", "1")}
		for _, old := range n.ips {
			errs = append(errs, h.DeleteAddr(netlinkx.Addr{Link: eth.Index, Prefix: lanPrefix(old)}))
		}
		n.ips = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", number))}
		for _, ip := range n.ips {
			errs = append(errs, h.ReplaceAddr(netlinkx.Addr{Link: eth.Index, Prefix: lanPrefix(ip)}))
		}
		return errors.Join(errs...)
	})
	must(l.T, err)
}

func lanPrefix(ip netip.Addr) netip.Prefix {
	if ip.Is4() {
		return netip.PrefixFrom(ip, 24)
	}
	return netip.PrefixFrom(ip, 64)
}

// start is what an agent does that starts on the node; a Pod that runs there keeps what
// it has.
func (l *lan) start(n *lanNode) {
	l.Helper()
	n.cfg.NodeIPs = n.ips
	n.net = New(n.cfg)
	l.on(n, func() (err error) {
		if err := n.net.Configure(l.Context(), n.ranges); err != nil {
			return err
		}
		had := n.pod
		n.pod, err = n.net.Setup(l.Context(), ref(n.name))
		if had.IP.IsValid() && had != n.pod {
			return fmt.Errorf("the Pod changed from %+v to %+v", had, n.pod)
		}
		return err
	})
}

// on runs f where the node's programs run.
func (l *lan) on(n *lanNode, f func() error) {
	l.Helper()
	if err := l.k.in(n.path, f); err != nil {
		l.Fatalf("on node %s: %v", n.name, err)
	}
}

func (l *lan) all() []overlay.Node {
	var all []overlay.Node
	for _, n := range l.nodes {
		all = append(all, overlay.Node{Name: n.name, IPs: n.ips, Ranges: n.ranges})
	}
	return all
}

// tell tells one node of all.
func (l *lan) tell(n *lanNode, repair bool) []overlay.Problem {
	l.Helper()
	var problems []overlay.Problem
	l.on(n, func() (err error) {
		problems, err = n.net.SetPeers(l.Context(), l.all(), repair)
		return err
	})
	return problems
}

func (l *lan) tellAll() {
	l.Helper()
	for _, n := range l.nodes {
		if problems := l.tell(n, false); len(problems) > 0 {
			l.Errorf("node %s has problems: %v", n.name, problems)
		}
	}
}

// serve answers in the namespace on every address: the client's address in a line, and
// then whatever the client sends.
func (l *lan) serve(path string) {
	l.Helper()
	var listener net.Listener
	must(l.T, l.k.in(path, func() (err error) {
		listener, err = net.Listen("tcp", "[::]:8080")
		return err
	}))
	l.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
				_, _ = fmt.Fprintln(conn, client)
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

// talk connects from the namespace, sends and gets back a payload, and returns which
// client address the server saw.
func (l *lan) talk(path string, to netip.Addr, payload []byte) (seen string, err error) {
	err = l.k.in(path, func() error {
		conn, err := net.DialTimeout("tcp", at(to, 8080), dialTimeout)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
			return err
		}
		line := make([]byte, 0, 64)
		for one := make([]byte, 1); !bytes.HasSuffix(line, []byte("\n")); line = append(line, one...) {
			if _, err := io.ReadFull(conn, one); err != nil {
				return err
			}
		}
		seen = strings.TrimSpace(string(line))
		sent := make(chan error, 1)
		go func() { _, err := conn.Write(payload); sent <- err }()
		got := make([]byte, len(payload))
		_, err = io.ReadFull(conn, got)
		if err = errors.Join(err, <-sent); err == nil && !bytes.Equal(got, payload) {
			err = errors.New("another payload came back")
		}
		return err
	})
	return seen, err
}

func (l *lan) wantSeen(who, path string, to, want netip.Addr, payload []byte) {
	l.Helper()
	if seen, err := l.talk(path, to, payload); err != nil || seen != want.String() {
		l.Errorf("from %s to %s: the server saw client %q, %v; want %s", who, to, seen, err, want)
	}
}

// wantAllReachAll checks every pair of Pods, and every node with every Pod, for sources
// kept and answers that come back.
func (l *lan) wantAllReachAll() {
	l.Helper()
	payload := bytes.Repeat([]byte("keelson!"), 32<<10) // packets as large as the path takes
	for _, from := range l.nodes {
		for _, to := range l.nodes {
			for i, ip := range to.pod.IPs() {
				own := from.pod.IPs()[i]
				gw := gateway(from.ranges.Of(own))
				l.wantSeen("Pod "+from.name, from.pod.NetNSPath, ip, own, payload)
				l.wantSeen("node "+from.name, from.path, ip, gw, payload)
			}
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPodsReachThoseOfOtherNodes(t *testing.T) {
	for _, mode := range []overlay.Mode{overlay.VXLAN, overlay.HostGW} {
		for families, cluster := range map[string]ranges.List{"IPv4": lanSingle, "both families": lanDual} {
			t.Run(string(mode)+" with "+families, func(t *testing.T) {
				l := newLAN(t, mode, cluster, "a", "b", "c")
				for _, n := range l.nodes {
					l.serve(n.pod.NetNSPath)
				}
				if want := lanMTU - mode.Overhead(); l.nodes[0].pod.MTU != want {
					t.Errorf("the Pods' MTU is %d, want %d", l.nodes[0].pod.MTU, want)
				}
				l.wantAllReachAll()
				for _, ip := range l.nodes[1].pod.IPs() {
					l.wantLargestPacket(l.nodes[0].pod, ip)
				}
			})
		}
	}
}

// wantLargestPacket sends a datagram of the Pod's MTU that may not be divided, and one
// that is a byte larger.
func (l *lan) wantLargestPacket(from PodNetwork, to netip.Addr) {
	l.Helper()
	headers, level, option := 28, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if to.Is6() {
		headers, level, option = 48, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	var server net.PacketConn
	target := slices.IndexFunc(l.nodes, func(n *lanNode) bool { return slices.Contains(n.pod.IPs(), to) })
	must(l.T, l.k.in(l.nodes[target].pod.NetNSPath, func() (err error) {
		server, err = net.ListenPacket("udp", at(to, 9))
		return err
	}))
	defer func() { _ = server.Close() }()
	err := l.k.in(from.NetNSPath, func() error {
		conn, err := net.Dial("udp", at(to, 9))
		if err != nil {
			return err
		}
		defer conn.Close()
		raw, err := conn.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var set error
		if err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), level, option, unix.IP_PMTUDISC_DO) }); err != nil || set != nil {
			return errors.Join(err, set)
		}
		if _, err := conn.Write(make([]byte, from.MTU-headers+1)); !errors.Is(err, unix.EMSGSIZE) {
			l.Errorf("a datagram of %d bytes to %s: %v, want %v", from.MTU+1, to, err, unix.EMSGSIZE)
		}
		_, err = conn.Write(make([]byte, from.MTU-headers))
		return err
	})
	must(l.T, err)
	must(l.T, server.SetReadDeadline(time.Now().Add(dialTimeout)))
	if n, _, err := server.ReadFrom(make([]byte, 2*from.MTU)); err != nil || n != from.MTU-headers {
		l.Errorf("of a datagram of %d bytes to %s %d bytes came, %v", from.MTU, to, n, err)
	}
}

// ways lists what a node has for other nodes: routes, neighbours and forwardings.
func (l *lan) ways(n *lanNode) []string {
	l.Helper()
	var lines []string
	l.on(n, func() error {
		k := netlinkx.New()
		routes, err := k.Routes()
		for _, r := range routes {
			if overlay.IsRoute(r) {
				lines = append(lines, fmt.Sprintf("%s via %s", r.Dst, r.Via))
			}
		}
		tunnel, linkErr := k.Link(overlay.Interface)
		if linkErr != nil {
			return errors.Join(err, linkErr)
		}
		neighbours, nErr := k.Neighbours(tunnel.Index)
		for _, entry := range neighbours {
			lines = append(lines, fmt.Sprintf("%s is %s", entry.IP, entry.MAC))
		}
		forwardings, fErr := k.Forwardings(tunnel.Index)
		for _, f := range forwardings {
			lines = append(lines, fmt.Sprintf("%s at %s", f.MAC, f.To))
		}
		return errors.Join(err, nErr, fErr)
	})
	slices.Sort(lines)
	return lines
}

func (l *lan) wantWays(n *lanNode, want ...string) {
	l.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, l.ways(n)); diff != "" {
		l.Errorf("what node %s has for others (-want +got):\n%s", n.name, diff)
	}
}

func TestNodesComeGoAndMove(t *testing.T) {
	l := newLAN(t, overlay.VXLAN, lanDual, "a", "b", "c")
	a, b, c := l.nodes[0], l.nodes[1], l.nodes[2]
	for _, n := range l.nodes {
		l.serve(n.pod.NetNSPath)
	}
	toB := func(ip string) []string {
		return []string{"0a:4d:0a:f4:02:00 at " + ip, "10.244.2.1 is 0a:4d:0a:f4:02:00", "fd00:10:244:2::1 is 0a:4d:0a:f4:02:00",
			"10.244.2.0/24 via 10.244.2.1", "fd00:10:244:2::/64 via fd00:10:244:2::1"}
	}
	toC := []string{"0a:4d:0a:f4:03:00 at 192.0.2.3", "10.244.3.1 is 0a:4d:0a:f4:03:00", "fd00:10:244:3::1 is 0a:4d:0a:f4:03:00",
		"10.244.3.0/24 via 10.244.3.1", "fd00:10:244:3::/64 via fd00:10:244:3::1"}
	l.wantWays(a, append(toB("192.0.2.2"), toC...)...)

	// A connection that exists outlives all that happens to other nodes.
	var conn net.Conn
	must(t, l.k.in(a.pod.NetNSPath, func() (err error) {
		conn, err = net.DialTimeout("tcp", at(b.pod.IP, 8080), dialTimeout)
		return err
	}))
	defer conn.Close()
	line := bufio.NewReader(conn)
	if _, err := line.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	wantAlive := func(when string) {
		t.Helper()
		must(t, conn.SetDeadline(time.Now().Add(dialTimeout)))
		if _, err := fmt.Fprintln(conn, when); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, err := line.ReadString('\n'); err != nil || strings.TrimSpace(got) != when {
			t.Fatalf("%s: %q came back, %v", when, got, err)
		}
	}

	l.nodes = []*lanNode{a, b}
	l.tellAll()
	l.wantWays(a, toB("192.0.2.2")...)
	for _, ip := range c.pod.IPs() {
		// IPv6 has another number for the same answer.
		if _, err := l.talk(a.pod.NetNSPath, ip, nil); !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
			t.Errorf("a Pod of a node that is gone: %v, want %v", err, unix.EHOSTUNREACH)
		}
	}
	wantAlive("a node has gone")

	// Node b gets another address while its Pod runs; its agent starts again.
	l.address(b, 77)
	l.start(b)
	l.tellAll()
	l.wantWays(a, toB("192.0.2.77")...)
	wantAlive("the other node has moved")

	l.nodes = []*lanNode{a, b, c}
	l.tellAll()
	l.wantAllReachAll()

	// What somebody else, or a process that died, has left there goes; what he took away
	// comes back.
	l.on(a, func() error {
		k := netlinkx.New()
		tunnel, err := k.Link(overlay.Interface)
		if err != nil {
			return err
		}
		stale := netlinkx.Route{Dst: netip.MustParsePrefix("10.244.9.0/24"), Link: tunnel.Index, Via: netip.MustParseAddr("10.244.9.1"), OnLink: true, Protocol: overlay.RouteProtocol}
		return errors.Join(
			k.SetForwarding(netlinkx.Forwarding{Link: tunnel.Index, MAC: "0a:4d:0a:f4:09:00", To: netip.MustParseAddr("192.0.2.9")}),
			k.SetForwarding(netlinkx.Forwarding{Link: tunnel.Index, MAC: "0a:4d:0a:f4:03:00", To: netip.MustParseAddr("192.0.2.99")}),
			k.SetNeighbour(netlinkx.Neighbour{Link: tunnel.Index, IP: netip.MustParseAddr("10.244.9.1"), MAC: net.HardwareAddr{0x0a, 0x4d, 0x0a, 0xf4, 9, 0}}),
			k.ReplaceRoute(stale),
			k.DeleteNeighbour(netlinkx.Neighbour{Link: tunnel.Index, IP: netip.MustParseAddr("10.244.2.1")}),
			k.DeleteRoute(netlinkx.Route{Dst: b.ranges.V6(), Link: tunnel.Index, Via: gateway(b.ranges.V6())}),
		)
	})
	l.tell(a, true)
	l.wantWays(a, append(toB("192.0.2.77"), toC...)...)
	wantAlive("stale entries have gone")

	// Somebody removes the tunnel; the agent that starts again makes it anew.
	l.on(a, func() error { return netlinkx.New().DeleteLink(overlay.Interface) })
	l.start(a)
	l.tell(a, true)
	l.wantAllReachAll()
	wantAlive("the tunnel is there again")
}

func TestAnotherModeReplacesTheWays(t *testing.T) {
	l := newLAN(t, overlay.VXLAN, lanDual, "a", "b")
	for _, n := range l.nodes {
		l.serve(n.pod.NetNSPath)
	}
	for _, mode := range []overlay.Mode{overlay.HostGW, overlay.VXLAN} {
		for _, n := range l.nodes {
			n.cfg.Overlay, n.pod = mode, PodNetwork{} // the MTU is another
			l.start(n)
		}
		l.tellAll()
		l.wantAllReachAll()
		l.on(l.nodes[0], func() error {
			_, err := netlinkx.New().Link(overlay.Interface)
			if found := err == nil; found != (mode == overlay.VXLAN) {
				t.Errorf("with %s the tunnel is there: %v", mode, found)
			}
			return nil
		})
	}
}

func TestPlainRoutesNeedACommonLink(t *testing.T) {
	l := newLAN(t, overlay.HostGW, lanSingle, "a", "b")
	far := overlay.Node{Name: "far", IPs: []netip.Addr{netip.MustParseAddr("198.51.100.9")}, Ranges: ranges.MustParse("10.244.200.0/24")}
	a := l.nodes[0]
	l.on(a, func() error {
		problems, err := a.net.SetPeers(t.Context(), append(l.all(), far), false)
		if len(problems) != 1 || problems[0].Node != "far" || !strings.Contains(problems[0].Message, "198.51.100.9 is not on this node's link") {
			t.Errorf("got %v, want that far is too far", problems)
		}
		return err
	})
	l.serve(l.nodes[1].pod.NetNSPath)
	l.wantSeen("Pod a", a.pod.NetNSPath, l.nodes[1].pod.IP, a.pod.IP, nil)
}

func TestTunnelsThatAreInTheWay(t *testing.T) {
	l := newLAN(t, overlay.VXLAN, lanSingle, "a")
	a := l.nodes[0]
	l.on(a, func() error {
		k := netlinkx.New()
		if _, err := k.Link(overlay.Interface); !errors.Is(err, netlinkx.ErrNotFound) {
			t.Errorf("a node without others has a tunnel: %v", err)
		}
		others := []overlay.Node{{Name: "b", IPs: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Ranges: ranges.MustParse("10.244.9.0/24")}}
		other := netlinkx.VXLAN{Name: "other0", ID: 75, Port: overlay.DefaultPort, Local: a.ips[0], MAC: "02:00:00:00:00:01", MTU: 1400}
		must(t, k.AddVXLAN(other))
		if _, err := a.net.SetPeers(t.Context(), others, true); err == nil || !strings.Contains(err.Error(), "--overlay-port") {
			t.Errorf("a tunnel with our number and port: %v, want to be told of another port", err)
		}
		must(t, k.DeleteLink("other0"))
		must(t, k.AddBridge(netlinkx.Bridge{Name: overlay.Interface, MTU: 1500}))
		if _, err := a.net.SetPeers(t.Context(), others, true); err == nil || !strings.Contains(err.Error(), "kls-vxlan is a bridge") {
			t.Errorf("a bridge with our name: %v, want to be told", err)
		}
		must(t, k.DeleteLink(overlay.Interface))

		// flannel's port, and a number of its own: both work side by side.
		flannel := netlinkx.VXLAN{Name: "flannel.1", ID: 1, Port: 8472, Local: a.ips[0], MAC: "02:00:00:00:00:02", MTU: 1450}
		must(t, k.AddVXLAN(flannel))
		_, err := a.net.SetPeers(t.Context(), others, true)
		return errors.Join(err, k.DeleteLink("flannel.1"))
	})
}

func TestARestartKeepsTheTunnelAndTheWayOut(t *testing.T) {
	l := newLAN(t, overlay.VXLAN, lanDual, "a", "b")
	a := l.nodes[0]
	look := func() (index int, acceptRA string) {
		l.on(a, func() error {
			tunnel, err := netlinkx.New().Link(overlay.Interface)
			if err != nil {
				return err
			}
			index = tunnel.Index
			acceptRA, err = netlinkx.New().Sysctl("net/ipv6/conf/lan0/accept_ra")
			return err
		})
		return index, acceptRA
	}
	before, acceptRA := look()
	if acceptRA != "2" { // 1 is the kernel's default, which a router takes for 0
		t.Errorf("accept_ra of the interface that leads out is %s, want 2", acceptRA)
	}
	l.start(a)
	l.tell(a, false)
	if after, _ := look(); after != before {
		t.Errorf("the tunnel was interface %d and is %d: it was made anew", before, after)
	}
}
