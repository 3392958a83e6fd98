package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// dialTimeout lets the kernel, which tells one peer once in a second that an address
// cannot be reached, tell it of several.
const dialTimeout = 20 * time.Second

// inNamespaceEnv tells a test process that it is the child with namespaces of its own.
const inNamespaceEnv = "KEELSON_NETWORK_TEST_NAMESPACE"

// TestMain runs the tests again in a child with fresh network and mount namespaces:
// whatever a test leaves behind dies with it, and the machine's network is out of reach.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespaceEnv) != "" {
		if err := prepareNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "preparing the test's namespaces:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		os.Exit(m.Run()) // kernel tests skip themselves
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), inNamespaceEnv+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := child.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(max(1, exit.ExitCode()))
	case errors.Is(err, syscall.EPERM):
		os.Exit(m.Run())
	case err != nil:
		fmt.Fprintln(os.Stderr, "starting the tests in namespaces of their own:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func prepareNamespace() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// kernelTest is a node in the test's own namespace.
type kernelTest struct {
	*testing.T
	cfg Config
	net *Network
}

var podRange = ranges.MustParse("10.244.0.0/24")

// newKernelTest configures a node, and checks afterwards that Remove leaves nothing.
func newKernelTest(t *testing.T) *kernelTest {
	t.Helper()
	if os.Getenv(inNamespaceEnv) == "" {
		t.Skip("needs root and CAP_SYS_ADMIN to make network namespaces")
	}
	cfg := DefaultConfig()
	dir := t.TempDir()
	cfg.StateDir, cfg.NetNSDir = filepath.Join(dir, "state"), filepath.Join(dir, "netns")
	before := leftovers(t, cfg)
	k := &kernelTest{T: t, cfg: cfg}
	k.restart()
	t.Cleanup(func() {
		if err := New(cfg).Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Remove: %v", err)
		}
		if after := leftovers(t, cfg); !slices.Equal(before, after) {
			t.Errorf("Remove left\n%s\nbefore the test there was\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	})
	return k
}

// restart is what an agent does that starts on this node.
func (k *kernelTest) restart() {
	k.Helper()
	k.net = New(k.cfg)
	if err := k.net.Configure(k.Context(), podRange); err != nil {
		k.Fatal(err)
	}
}

func (k *kernelTest) pod(name string) PodNetwork {
	k.Helper()
	p, err := k.net.Setup(k.Context(), ref(name))
	if err != nil {
		k.Fatal(err)
	}
	return p
}

func ref(name string) PodRef {
	return PodRef{UID: types.UID("uid-" + name), Namespace: "default", Name: name}
}

// leftovers lists all that the package could leave on the host.
func leftovers(t *testing.T, cfg Config) []string {
	t.Helper()
	s, err := New(cfg).snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range s.links {
		lines = append(lines, "link "+l.Name)
	}
	for _, a := range s.addrs {
		lines = append(lines, "address "+a.Prefix.String())
	}
	for _, r := range s.routes {
		lines = append(lines, fmt.Sprintf("route %s on %s", r.Dst, s.link(r.Link).Name))
	}
	for _, dir := range []string{cfg.NetNSDir, cfg.StateDir} {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			lines = append(lines, "file "+path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for mount := range strings.Lines(string(mounts)) {
		if strings.Contains(mount, cfg.NetNSDir) {
			lines = append(lines, "mount "+mount)
		}
	}
	slices.Sort(lines)
	return lines
}

// in runs f in the namespace; "" is the host.
func (k *kernelTest) in(path string, f func() error) error {
	if path == "" {
		return f()
	}
	return netlinkx.New().InNamespace(path, func(netlinkx.Handle) error { return f() })
}

// serve answers each connection with the client's address as the server sees it.
func (k *kernelTest) serve(path string, port int) {
	k.Helper()
	var listener net.Listener
	err := k.in(path, func() (err error) {
		listener, err = net.Listen("tcp4", fmt.Sprintf("0.0.0.0:%d", port))
		return err
	})
	if err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			_, _ = fmt.Fprintln(conn, conn.RemoteAddr().(*net.TCPAddr).IP)
			_ = conn.Close()
		}
	}()
}

// dial connects from the namespace and returns which client address the server saw.
func (k *kernelTest) dial(path, to string) (string, error) {
	var seen string
	err := k.in(path, func() error {
		conn, err := net.DialTimeout("tcp4", to, dialTimeout)
		if err != nil {
			return err
		}
		if err := conn.SetDeadline(time.Now().Add(4 * time.Second)); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		seen = strings.TrimSpace(line)
		return errors.Join(err, conn.Close())
	})
	return seen, err
}

func (k *kernelTest) wantSeen(path, to, want string) {
	k.Helper()
	seen, err := k.dial(path, to)
	if err != nil || seen != want {
		k.Errorf("from %q to %s: the server saw client %q, %v; want %q", filepath.Base(path), to, seen, err, want)
	}
}

func at(ip netip.Addr, port int) string { return netip.AddrPortFrom(ip, uint16(port)).String() }

// iptables runs one command, and its opposite when the test ends.
func (k *kernelTest) iptables(table, chain string, rule ...string) {
	k.Helper()
	run := func(op string) error {
		args := append([]string{"-w", "10", "-t", table, op, chain}, rule...)
		if out, err := exec.Command("iptables", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %v: %w: %s", args, err, out)
		}
		return nil
	}
	if err := run("-A"); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		if err := run("-D"); err != nil {
			k.Error(err)
		}
	})
}

// greedy are the addresses that greedyGateway answers for: those of the documentation
// range, which show that it does, and those that the node must never send to it.
var greedy = []string{"198.51.100.0/24", "10.244.0.64/26", "10.244.9.0/24", "10.254.0.0/16"}

// greedyGateway makes a neighbour of the node that takes its default route and answers
// for addresses that are not its own, as some machines' gateways do.
func (k *kernelTest) greedyGateway(port int) {
	k.Helper()
	kernel := netlinkx.New()
	path := filepath.Join(k.TempDir(), "gateway")
	if err := kernel.CreateNamespace(path); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		if err := errors.Join(kernel.DeleteLink("wan0"), kernel.DeleteNamespace(path)); err != nil {
			k.Error(err)
		}
	})
	if err := kernel.AddVeth(netlinkx.Veth{Name: "wan0", PeerName: "gw0", PeerNS: path, MTU: 1500}); err != nil {
		k.Fatal(err)
	}
	node, gateway := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	connect := func(h netlinkx.Handle, name string, own netip.Addr, routes ...netlinkx.Route) error {
		l, err := h.Link(name)
		if err != nil {
			return err
		}
		if err := errors.Join(h.SetUp(l.Index), h.ReplaceAddr(netlinkx.Addr{Link: l.Index, Prefix: netip.PrefixFrom(own, 24)})); err != nil {
			return err
		}
		for _, r := range routes {
			r.Link = l.Index
			if err := h.ReplaceRoute(r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := connect(kernel, "wan0", node, netlinkx.Route{Dst: anywhere, Via: gateway}); err != nil {
		k.Fatal(err)
	}
	err := kernel.InNamespace(path, func(h netlinkx.Handle) error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		errs := []error{netlink.LinkSetUp(lo)}
		for _, everything := range greedy {
			_, dst, err := net.ParseCIDR(everything)
			errs = append(errs, err, netlink.RouteAdd(&netlink.Route{
				LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: unix.RT_TABLE_LOCAL,
			}))
		}
		return errors.Join(errors.Join(errs...),
			connect(h, "gw0", gateway, netlinkx.Route{Dst: k.cfg.ClusterCIDRs.V4(), Via: node}))
	})
	if err != nil {
		k.Fatal(err)
	}
	k.serve(path, port)
}
