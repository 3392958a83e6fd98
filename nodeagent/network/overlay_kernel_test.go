package network

import (
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
	defer server.Close()
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
