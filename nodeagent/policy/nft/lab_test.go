package nft

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// lab is a node with Pods and a machine outside, each in a network namespace of its own
// and with an address of both families. Nothing in it reaches the real network.
type lab struct {
	t      testing.TB
	prefix string
}

var labs atomic.Int32

// addresses of the lab's namespaces, IPv4 and IPv6.
var addresses = map[string][2]string{
	"node": {"10.244.1.1", "fd00:10::1"}, "a": {"10.244.1.2", "fd00:10::2"}, "b": {"10.244.1.3", "fd00:10::3"},
	"c": {"10.244.1.4", "fd00:10::4"}, "out": {"192.0.2.2", "fd00:192::2"},
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	l := &lab{t: t, prefix: fmt.Sprintf("klspol%d-%d-", os.Getpid(), labs.Add(1))}
	for _, name := range []string{"node", "out", "a", "b", "c"} {
		if out, err := exec.Command("ip", "netns", "add", l.prefix+name).CombinedOutput(); err != nil {
			if strings.Contains(string(out), "Operation not permitted") {
				t.Skip("not permitted to make network namespaces")
			}
			t.Fatalf("ip netns add: %v: %s", err, out)
		}
		t.Cleanup(func() { l.run("ip", "netns", "del", l.prefix+name) })
		l.ip(name, "link set lo up")
	}
	l.ip("node", "link add keelson0 type bridge")
	l.ip("node", "addr add 10.244.1.1/32 dev keelson0")
	l.ip("node", "addr add fd00:10::1/128 dev keelson0 nodad")
	l.ip("node", "link set keelson0 up")
	for _, pod := range []string{"a", "b", "c"} {
		l.pod(pod)
	}
	l.ip("node", "link add eth0 type veth peer name eth0 netns "+l.prefix+"out")
	for name, a := range map[string][2]string{"node": {"192.0.2.1/24", "fd00:192::1/64"}, "out": {"192.0.2.2/24", "fd00:192::2/64"}} {
		l.ip(name, "addr add "+a[0]+" dev eth0")
		l.ip(name, "addr add "+a[1]+" dev eth0 nodad")
		l.ip(name, "link set eth0 up")
	}
	l.ip("out", "route add 10.0.0.0/8 via 192.0.2.1")
	l.ip("out", "-6 route add fd00:10::/32 via fd00:192::1")
	l.in("node", func() {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

// pod connects a namespace as package network does.
func (l *lab) pod(name string) {
	a := addresses[name]
	l.ip("node", fmt.Sprintf("link add kls%s type veth peer name eth0 netns %s%s", name, l.prefix, name))
	l.ip("node", "link set kls"+name+" up")
	l.ip("node", "route add "+a[0]+"/32 dev kls"+name+" src 10.244.1.1")
	l.ip("node", "addr add fe80::1/64 dev kls"+name+" nodad")
	l.ip("node", "-6 route add "+a[1]+"/128 dev kls"+name+" src fd00:10::1")
	l.ip(name, "addr add "+a[0]+"/32 dev eth0")
	l.ip(name, "addr add "+a[1]+"/128 dev eth0 nodad")
	l.ip(name, "link set eth0 up")
	l.ip(name, "route add 10.244.1.1 dev eth0 scope link")
	l.ip(name, "route add default via 10.244.1.1")
	l.ip(name, "-6 route add default via fe80::1 dev eth0")
}

func (l *lab) ip(name, command string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", l.prefix + name}, strings.Fields(command)...)...)
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// in runs f on a thread of its own in a namespace; the thread ends with it.
func (l *lab) in(name string, f func()) {
	l.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		err := errors.New("ended early")
		defer func() { done <- err }()
		var ns netns.NsHandle
		if ns, err = netns.GetFromName(l.prefix + name); err != nil {
			return
		}
		defer func() { _ = ns.Close() }()
		if err = netns.Set(ns); err == nil {
			f()
		}
	}()
	if err := <-done; err != nil {
		l.t.Fatalf("in namespace %s: %v", name, err)
	}
}

// driver returns one of the node's namespace.
func (l *lab) driver() *Driver {
	ns, err := netns.GetFromName(l.prefix + "node")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = ns.Close() })
	return New(int(ns))
}

// serve echoes lines on TCP and packets on UDP, on both families.
func (l *lab) serve(ns string, port string) {
	l.t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	var err, err2 error
	l.in(ns, func() {
		listener, err = net.Listen("tcp", ":"+port)
		packets, err2 = net.ListenPacket("udp", ":"+port)
	})
	if err := errors.Join(err, err2); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewReader(conn); ; {
					line, err := lines.ReadString('\n')
					if err != nil {
						return
					}
					fmt.Fprint(conn, line)
				}
			}()
		}
	}()
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	}()
}

func (l *lab) dial(ns, network, address string) (conn net.Conn, err error) {
	l.in(ns, func() { conn, err = net.DialTimeout(network, address, patience) })
	return conn, err
}

// patience is how long an answer may take that is not expected to come.
const patience = 700 * time.Millisecond

func echoes(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && line == "hello\n"
}

// reaches asks on both families, which must agree.
func (l *lab) reaches(from, network, to, port string) bool {
	l.t.Helper()
	var got [2]bool
	for family := range got {
		conn, err := l.dial(from, network, net.JoinHostPort(addresses[to][family], port))
		if err != nil {
			continue
		}
		got[family] = echoes(conn)
		_ = conn.Close()
	}
	if got[0] != got[1] {
		l.t.Errorf("%s to %s:%s by %s: IPv4 %v, IPv6 %v", from, to, port, network, got[0], got[1])
	}
	return got[0]
}
