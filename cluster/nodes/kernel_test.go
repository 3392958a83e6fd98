package nodes

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/test/env/leaks"
	"github.com/keelson-dev/keelson/test/env/machine"
)

// TestMain runs the tests on a throw-away machine where there are rights to make one.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	os.Exit(machine.Main(m.Run))
}

// lab is a machine with nodes that ends with the test and must leave nothing.
type lab struct {
	*Machine
	t     *testing.T
	nodes []Node
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	before, err := leaks.Take()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{Machine: New(Options{Dir: "/run/keelson/nodes", Network: network, Network6: network6, CgroupRoot: "/keelson-test"}), t: t}
	data := t.TempDir()
	for i, name := range names {
		l.nodes = append(l.nodes, Node{Name: name, Address: netip.AddrFrom4([4]byte{198, 19, 0, byte(2 + i)}), Data: filepath.Join(data, name), Boot: 1})
	}
	t.Cleanup(func() {
		ctx := context.Background()
		for _, n := range l.nodes {
			if err := l.Remove(ctx, n.Name); err != nil {
				t.Error(err)
			}
		}
		if err := l.RemoveNetwork(ctx); err != nil {
			t.Error(err)
		}
		if err := os.Remove("/run/keelson"); err != nil {
			t.Error(err)
		}
		after, err := leaks.Take()
		if err == nil {
			err = before.Compare(after)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err := l.EnsureNetwork(); err != nil {
		t.Fatal(err)
	}
	l.ensure()
	return l
}

// ensure makes the nodes and applies their cuts.
func (l *lab) ensure() {
	l.t.Helper()
	for _, n := range l.nodes {
		if err := l.Ensure(l.t.Context(), n); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := l.ApplyTraffic(l.t.Context(), l.nodes); err != nil {
		l.t.Fatal(err)
	}
}

// listen answers on a node, or on this machine for "", until the test ends.
func (l *lab) listen(name string) string {
	l.t.Helper()
	var listener net.Listener
	open := func() (err error) {
		listener, err = net.Listen("tcp", "[::]:0") // both families
		return err
	}
	address := Gateway(network)
	if name == "" {
		if err := open(); err != nil {
			l.t.Fatal(err)
		}
	} else {
		if err := l.Enter(name, open); err != nil {
			l.t.Fatal(err)
		}
		address = l.node(name).Address
	}
	l.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	return fmt.Sprintf("%s:%d", address, listener.Addr().(*net.TCPAddr).Port)
}

func (l *lab) node(name string) *Node {
	for i := range l.nodes {
		if l.nodes[i].Name == name {
			return &l.nodes[i]
		}
	}
	l.t.Fatalf("no node %s", name)
	return nil
}

// reaches says whether connections of both families are made, as wanted or not. A new
// wire may lose its first packets, so a connection that is wanted is waited for; that
// none is made shows by the silence of many times the way.
func (l *lab) reaches(want bool, from, address string) bool {
	l.t.Helper()
	at := netip.MustParseAddrPort(address)
	second := netip.AddrPortFrom(Second(network, network6, at.Addr()), at.Port())
	first := l.connects(want, from, at.String())
	if l.connects(want, from, second.String()) != first {
		l.t.Errorf("from %q: %s is reached: %v, %s is not as much", from, at, first, second)
	}
	return first
}

func (l *lab) connects(want bool, from, address string) bool {
	wait := 500 * time.Millisecond
	if want {
		wait = 20 * time.Second
	}
	dial := func() error {
		conn, err := net.DialTimeout("tcp", address, wait)
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if from == "" {
		return dial() == nil
	}
	return l.Enter(from, dial) == nil
}

func TestCutsLoseWhatTheySay(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	here, a, b, c := l.listen(""), l.listen("a"), l.listen("b"), l.listen("c")
	tests := []struct {
		cut Cut // of node a
		// whether a reaches this machine, this machine a, a reaches b, b a
		want [4]bool
	}{
		{Cut{}, [4]bool{true, true, true, true}},
		{Cut{From: ControlPlane}, [4]bool{false, false, true, true}},
		{Cut{From: OtherNodes}, [4]bool{true, true, false, false}},
		{Cut{From: Everybody}, [4]bool{false, false, false, false}},
		{Cut{From: OtherNodes, Only: Received}, [4]bool{true, true, false, false}},
		{Cut{From: ControlPlane, Only: Sent}, [4]bool{false, false, true, true}},
		{Cut{}, [4]bool{true, true, true, true}},
	}
	for _, tt := range tests {
		l.node("a").Cut = tt.cut
		if err := l.ApplyTraffic(t.Context(), l.nodes); err != nil {
			t.Fatal(err)
		}
		got := [4]bool{l.reaches(tt.want[0], "a", here), l.reaches(tt.want[1], "", a), l.reaches(tt.want[2], "a", b), l.reaches(tt.want[3], "b", a)}
		if got != tt.want {
			t.Errorf("%q: %v, want %v", tt.cut, got, tt.want)
		}
		if !l.reaches(true, "b", c) || !l.reaches(true, "b", here) {
			t.Errorf("%q: other nodes are cut off, too", tt.cut)
		}
	}
}

// TestTheMachineDoesNotTranslateWhatNodesSendEachOther has a rule for the address of a node
// as the proxy of this machine has for those of load balancers.
func TestTheMachineDoesNotTranslateWhatNodesSendEachOther(t *testing.T) {
	const shown = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if _, err := os.Stat(shown); err != nil {
		t.Skipf("this kernel does not show packets of bridges to iptables: %v", err)
	}
	l := newLab(t, "a", "b")
	if err := os.WriteFile(shown, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	rule := []string{"PREROUTING", "-i", Bridge, "-d", l.node("b").Address.String(), "-p", "tcp", "-j", "DNAT", "--to-destination", "198.19.0.1:1"}
	nat := func(action string) error {
		return iptables(context.Background(), "", "iptables", append([]string{"--wait", "-t", "nat", action}, rule...)...)
	}
	if err := nat("-I"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nat("-D"); err != nil {
			t.Error(err)
		}
	})
	if !l.reaches(true, "a", l.listen("b")) {
		t.Error("node a does not reach node b, whose address this machine translates")
	}
}

func TestANodeHasFoldersAndANameOfItsOwn(t *testing.T) {
	l := newLab(t, "a", "b")
	if err := os.WriteFile("/run/of-this-machine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/run/of-this-machine") })
	in := func(node, script string) string {
		t.Helper()
		var out []byte
		if err := l.Enter(node, func() (err error) {
			out, err = exec.Command("sh", "-c", script).CombinedOutput()
			return err
		}); err != nil {
			t.Fatalf("%s in %s: %v\n%s", script, node, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	in("a", "echo 1 >/var/lib/keelson/kept; echo 1 >/var/log/kept; echo 1 >/run/lost; mkdir /run/mnt; mount -t tmpfs none /run/mnt")
	for script, want := range map[string]string{
		"hostname":                  "a",
		"cat /etc/hostname":         "a",
		"ls -d /run/lost /run/mnt":  "/run/lost\n/run/mnt",
		"cat /var/lib/keelson/kept": "1",
	} {
		if got := in("a", script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	if got := in("b", "hostname; ls /run /var/lib/keelson /var/log"); got != "b\n/run:\n\n/var/lib/keelson:\n\n/var/log:" {
		t.Errorf("the other node sees %q", got)
	}
	if exists("/run/lost") || exists("/var/log/kept") {
		t.Error("this machine sees the node's files")
	}

	l.node("a").Boot++
	l.ensure()
	if got := in("a", "ls /run /var/lib/keelson /var/log"); got != "/run:\n\n/var/lib/keelson:\nkept\n\n/var/log:\nkept" {
		t.Errorf("after another boot there are %q", got)
	}
}

// TestAPowerCutEndsEverything: a process that left, one that ignores signals, one in the
// node's cgroup and in no namespace of it.
func TestAPowerCutEndsEverything(t *testing.T) {
	l := newLab(t, "a")
	start := func(within func(func() error) error, script string) *exec.Cmd {
		t.Helper()
		cmd := exec.Command("setsid", "sh", "-c", script)
		if err := within(cmd.Start); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	here := func(f func() error) error { return f() }
	inside := func(f func() error) error { return l.Enter("a", f) }
	roots, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	var group string
	for _, root := range roots {
		group = filepath.Join(root, l.options.Cgroup("a"), "pod1")
		if os.MkdirAll(group, 0o755) == nil && filepath.Base(root) != "cpuset" {
			break
		}
	}
	cmds := []*exec.Cmd{
		start(inside, "trap '' TERM; while true; do sleep 1; done"),
		start(inside, "unshare -n -m sleep 600"),
		start(here, "echo $$ >"+group+"/cgroup.procs && exec sleep 600"),
	}
	other := start(here, "exec sleep 600")
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	for joined := false; !joined; {
		pids, err := cgroupProcesses(l.options.Cgroup("a"))
		if err != nil {
			t.Fatal(err)
		}
		joined = len(pids) > 0
	}
	if err := l.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("%v: %v", cmd.Args, err)
		}
	}
	if err := unix.Kill(other.Process.Pid, 0); err != nil {
		t.Errorf("a process of this machine was ended, too: %v", err)
	}
	if _, err := os.Stat(group); err == nil {
		t.Errorf("%s is still there", group)
	}
}

// TestUnfinishedNodesAreMadeAgain leaves a node as a death in the middle of its making
// would, step by step.
func TestUnfinishedNodesAreMadeAgain(t *testing.T) {
	tests := map[string]func(l *lab) error{
		"before the marker": func(l *lab) error { return os.Remove(l.marker("a")) },
		"in the middle of the marker": func(l *lab) error {
			return os.WriteFile(l.marker("a"), nil, 0o600)
		},
		"before the last pin": func(l *lab) error {
			return unix.Unmount(l.pin("a", "mnt"), unix.MNT_DETACH)
		},
		"before any pin": func(l *lab) error { return l.unpin("a") },
		"before the wire": func(l *lab) error {
			return removeLink(l.options.portName(l.node("a").Address))
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "a")
			if err := damage(l); err != nil {
				t.Fatal(err)
			}
			if name != "before the wire" { // a dead maker leaves no marker but the last
				_ = os.Remove(l.marker("a"))
			}
			l.ensure()
			if here := l.listen(""); !l.reaches(true, "a", here) {
				t.Error("the node does not reach this machine")
			}
			l.ensure() // and once more changes nothing
		})
	}
}

func TestRoutesFollow(t *testing.T) {
	l := newLab(t, "a")
	pods, pods6 := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")
	all := Routes{
		Pods:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/56")},
		Services: []netip.Prefix{netip.MustParsePrefix("10.254.0.0/16"), netip.MustParsePrefix("fd00:10:254::/112")},
		Nodes:    map[netip.Prefix]netip.Addr{pods: l.node("a").Address, pods6: netip.MustParseAddr("fd00:198:19::2")},
	}
	moved := all
	moved.Nodes = map[netip.Prefix]netip.Addr{pods: netip.MustParseAddr("198.19.0.9"), pods6: netip.MustParseAddr("fd00:198:19::9")}
	none := all
	none.Nodes = nil
	for _, tt := range []struct {
		routes Routes
		want   int
		via    string
	}{
		{all, 6, "198.19.0.2 fd00:198:19::2"}, {all, 6, "198.19.0.2 fd00:198:19::2"}, {moved, 6, "198.19.0.9 fd00:198:19::9"}, {none, 4, ""},
	} {
		if err := l.ApplyRoutes(tt.routes); err != nil {
			t.Fatal(err)
		}
		have, err := ownRoutes()
		if err != nil {
			t.Fatal(err)
		}
		via := ""
		for _, r := range have {
			if dst := r.Dst.String(); dst == pods.String() || dst == pods6.String() {
				via = strings.TrimSpace(via + " " + r.Gw.String())
			}
		}
		if len(have) != tt.want || via != tt.via {
			t.Errorf("routes %v, want %d, and to Pods via %q", have, tt.want, tt.via)
		}
	}
}
