package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// lab is a node with two Pods on a bridge and a machine outside, each in a network
// namespace of its own. Nothing in it can reach the real network.
type lab struct {
	t testing.TB
	// prefix of the names of the namespaces.
	prefix string
}

const (
	nodeIP    = "192.0.2.1"
	outsideIP = "192.0.2.2"
	podA      = "10.244.1.2"
	podB      = "10.244.1.3"

	nodeIP6    = "fd00:192::1"
	outsideIP6 = "fd00:192::2"
	podA6      = "fd00:10:244:1::2"
	podB6      = "fd00:10:244:1::3"
	gateway6   = "fd00:10:244:1::1"

	// externalIP is routed to the node, where nothing has it.
	externalIP  = "203.0.113.1"
	externalIP6 = "2001:db8::1"
)

var labCount atomic.Int32

// newLab builds the namespaces and removes them at the end of the test.
func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	l := &lab{t: t, prefix: fmt.Sprintf("klspx%d-%d-", os.Getpid(), labCount.Add(1))}
	for _, name := range []string{"node", "out", "a", "b"} {
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
	l.ip("node", "addr add "+gateway6+"/128 dev keelson0 nodad")
	l.ip("node", "link set keelson0 up")
	l.pod("a", podA, podA6)
	l.pod("b", podB, podB6)
	l.ip("node", "link add eth0 type veth peer name eth0 netns "+l.prefix+"out")
	l.ip("node", "addr add "+nodeIP+"/24 dev eth0")
	l.ip("node", "link set eth0 up")
	l.ip("out", "addr add "+outsideIP+"/24 dev eth0")
	l.ip("out", "link set eth0 up")
	// Everything unknown goes to the other side, where a leak would be seen.
	l.ip("node", "route add default via "+outsideIP)
	l.ip("out", "route add 10.0.0.0/8 via "+nodeIP)
	l.ip("node", "addr add "+nodeIP6+"/64 dev eth0 nodad")
	l.ip("out", "addr add "+outsideIP6+"/64 dev eth0 nodad")
	l.ip("node", "-6 route add default via "+outsideIP6)
	l.ip("out", "-6 route add fd00:10::/32 via "+nodeIP6)
	for _, external := range []string{externalIP, externalIP6} {
		l.ip("out", "route add "+external+" via "+map[bool]string{true: nodeIP6, false: nodeIP}[external == externalIP6])
	}
	l.in("node", func() {
		l.write("/proc/sys/net/ipv4/ip_forward", "1")
		l.write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
		l.write("/proc/sys/net/ipv6/icmp/ratelimit", "0")
		for _, name := range []string{"all", "keelson0", "eth0"} {
			l.write("/proc/sys/net/ipv4/conf/"+name+"/send_redirects", "0")
		}
		// The tests ask faster than the kernel likes to refuse.
		l.write("/proc/sys/net/ipv4/icmp_ratelimit", "0")
		// Answers between Pods must not need bridge netfilter.
		if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil {
			l.write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0")
		}
	})
	return l
}

// pod connects a namespace as package network does: an interface of its own on the
// node, with a route and without an address.
func (l *lab) pod(name, address, address6 string) {
	l.t.Helper()
	l.ip("node", fmt.Sprintf("link add kls%s type veth peer name eth0 netns %s%s", name, l.prefix, name))
	l.ip("node", "link set kls"+name+" up")
	l.ip("node", "route add "+address+"/32 dev kls"+name+" src 10.244.1.1")
	l.ip(name, "addr add "+address+"/32 dev eth0")
	l.ip(name, "link set eth0 up")
	l.ip(name, "route add 10.244.1.1 dev eth0 scope link")
	l.ip(name, "route add default via 10.244.1.1")
	l.ip("node", "addr add fe80::1/64 dev kls"+name+" nodad")
	l.ip("node", "-6 route add "+address6+"/128 dev kls"+name+" src "+gateway6)
	l.ip(name, "addr add "+address6+"/128 dev eth0 nodad")
	l.ip(name, "-6 route add default via fe80::1 dev eth0")
}

func (l *lab) write(path, value string) {
	l.t.Helper()
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) ip(name, command string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", l.prefix + name}, strings.Fields(command)...)...)
}

func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// in runs f on a thread of its own in a namespace. The thread ends with it.
func (l *lab) in(name string, f func()) {
	l.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
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

// serve answers on TCP and UDP with the given name and the address of the client, as
// "name from 10.0.0.1".
func (l *lab) serve(ns, name, address string) {
	l.t.Helper()
	l.serveTCP(ns, name, address)
	l.serveUDP(ns, name, address)
}

func (l *lab) serveTCP(ns, name, address string) {
	l.t.Helper()
	var listener net.Listener
	var err error
	l.in(ns, func() { listener, err = net.Listen("tcp", address) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "%s from %s\n", name, hostOf(conn.RemoteAddr()))
			conn.Close()
		}
	}()
}

// serveUDP returns a function that stops it.
func (l *lab) serveUDP(ns, name, address string) (stop func()) {
	l.t.Helper()
	var packets net.PacketConn
	var err error
	l.in(ns, func() { packets, err = net.ListenPacket("udp", address) })
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = packets.Close() })
	go func() {
		buffer := make([]byte, 100)
		for {
			_, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			if _, err := packets.WriteTo(fmt.Appendf(nil, "%s from %s\n", name, hostOf(from)), from); err != nil {
				return
			}
		}
	}()
	return func() { _ = packets.Close() }
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

// ask sends from a namespace and returns the answer, or "refused", "timeout", or the
// error.
func (l *lab) ask(ns, network, address string) string {
	l.t.Helper()
	return l.askFrom(ns, network, address, 0)
}

// askFrom is ask from a fixed source port; zero means any.
func (l *lab) askFrom(ns, network, address string, port int) (answer string) {
	l.t.Helper()
	return l.askWithin(ns, network, address, port, 3*time.Second)
}

func (l *lab) askWithin(ns, network, address string, port int, patience time.Duration) (answer string) {
	l.t.Helper()
	l.in(ns, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		dialer := net.Dialer{}
		if port != 0 {
			dialer.LocalAddr = &net.UDPAddr{Port: port}
		}
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			answer = describe(err)
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if network == "udp" {
			if _, err := conn.Write([]byte("hello")); err != nil {
				answer = describe(err)
				return
			}
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if answer = strings.TrimSpace(line); err != nil {
			answer = describe(err)
		}
	})
	return answer
}

func describe(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPERM):
		// EPERM is what a program on the node itself gets for UDP.
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}
