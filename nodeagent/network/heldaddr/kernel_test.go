package heldaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// lab is a bridge with a client and the nodes a and b, each in a namespace of its own.
type lab struct {
	t      *testing.T
	prefix string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make network namespaces")
	}
	l := &lab{t: t, prefix: fmt.Sprintf("klsha%d-", os.Getpid())}
	for i, name := range []string{"client", "a", "b"} {
		if out, err := exec.Command("ip", "netns", "add", l.prefix+name).CombinedOutput(); err != nil {
			if strings.Contains(string(out), "Operation not permitted") {
				t.Skip("not permitted to make network namespaces")
			}
			t.Fatalf("ip netns add: %v: %s", err, out)
		}
		t.Cleanup(func() { l.run("ip", "netns", "del", l.prefix+name) })
		l.ip(name, "link set lo up")
		if name == "client" {
			l.ip(name, "link add br0 type bridge")
			l.ip(name, "addr add 192.0.2.1/24 dev br0")
			l.ip(name, "addr add fd00:192::1/64 dev br0 nodad")
			l.ip(name, "link set br0 up")
			continue
		}
		l.ip("client", fmt.Sprintf("link add to%s type veth peer name eth0 netns %s%s", name, l.prefix, name))
		l.ip("client", "link set to"+name+" master br0 up")
		l.ip(name, fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", 10+i))
		l.ip(name, fmt.Sprintf("addr add fd00:192::%d/64 dev eth0 nodad", 10+i))
		l.ip(name, "link set eth0 up")
	}
	return l
}

func (l *lab) ip(ns, command string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", l.prefix + ns}, strings.Fields(command)...)...)
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
func (l *lab) in(ns string, f func() error) {
	l.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		err := errors.New("ended early")
		defer func() { done <- err }()
		var handle netns.NsHandle
		if handle, err = netns.GetFromName(l.prefix + ns); err != nil {
			return
		}
		defer func() { _ = handle.Close() }()
		if err = netns.Set(handle); err == nil {
			err = f()
		}
	}()
	if err := <-done; err != nil {
		l.t.Fatalf("in namespace %s: %v", ns, err)
	}
}

// serve answers with the node's name on every address of it.
func (l *lab) serve(ns string) {
	l.t.Helper()
	var listener net.Listener
	l.in(ns, func() (err error) { listener, err = net.Listen("tcp", "[::]:80"); return err })
	l.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprint(conn, ns)
			_ = conn.Close()
		}
	}()
}

// ask returns who answers the client within the time.
func (l *lab) ask(addr netip.Addr, within time.Duration) (answer string) {
	l.t.Helper()
	l.in("client", func() error {
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, 80).String(), within)
		if err != nil {
			answer = "nobody"
			return nil
		}
		defer func() { _ = conn.Close() }()
		buffer := make([]byte, 10)
		_ = conn.SetReadDeadline(time.Now().Add(within))
		n, _ := conn.Read(buffer)
		answer = string(buffer[:n])
		return nil
	})
	return answer
}

// TestAnAddressMoves lets a client talk to node a, then to b soon after b has told it
// so, and finds nobody when the time of b is over, without anybody's doing.
func TestAnAddressMoves(t *testing.T) {
	l := newLab(t)
	a := Holder{NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("fd00:192::11")}}
	b := Holder{NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.12"), netip.MustParseAddr("fd00:192::12")}}
	l.serve("a")
	l.serve("b")
	for _, addr := range []netip.Addr{netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("fd00:192::200")} {
		t.Run(addr.String(), func(t *testing.T) {
			l := &lab{t: t, prefix: l.prefix}
			l.in("a", func() error { return errors.Join(a.Hold(addr, time.Minute), a.Tell(addr)) })
			if got := l.ask(addr, 5*time.Second); got != "a" {
				t.Fatalf("%s answered, want a", got)
			}
			l.in("a", func() error { return errors.Join(a.Drop(addr), a.Drop(addr)) })
			l.in("b", func() error { return b.Hold(addr, time.Minute) })
			// A neighbour ignores news for a second after it has heard of the address. By
			// itself it would ask again after half a minute.
			told := time.Now()
			for {
				l.in("b", func() error { return b.Tell(addr) })
				if got := l.ask(addr, time.Second); got == "b" {
					break
				} else if time.Since(told) > 10*time.Second {
					t.Fatalf("%s answered, want b\n%s", got, l.run("ip", "-n", l.prefix+"client", "neigh"))
				}
			}
			t.Logf("the client found node b after %s", time.Since(told).Round(time.Millisecond))
			l.in("b", func() error { return b.Hold(addr, time.Minute) })
			if got := l.ask(addr, 5*time.Second); got != "b" {
				t.Errorf("%s answered after a renewal, want b\n%s", got, l.run("ip", "-n", l.prefix+"b", "-6", "route", "show", "table", "all"))
			}
			l.in("b", func() error { return b.Hold(addr, 2*time.Second) })
			for deadline := time.Now().Add(10 * time.Second); ; {
				held := l.run("ip", "-n", l.prefix+"b", "addr", "show", "dev", "eth0")
				if !strings.Contains(held, addr.String()+"/") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the kernel keeps the address:\n%s", held)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}

func TestSweepTakesOnlyWhatWasHeld(t *testing.T) {
	l := newLab(t)
	a := Holder{NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.11")}}
	held, others := netip.MustParseAddr("192.0.2.200"), netip.MustParseAddr("192.0.2.201")
	l.ip("a", "addr add 192.0.2.201/32 dev eth0")
	l.in("a", func() error {
		return errors.Join(a.Hold(held, time.Minute), a.Sweep(func(addr netip.Addr) bool { return addr == held || addr == others }))
	})
	after := l.run("ip", "-n", l.prefix+"a", "addr", "show", "dev", "eth0")
	if strings.Contains(after, held.String()) || !strings.Contains(after, others.String()) || !strings.Contains(after, "192.0.2.11/24") {
		t.Errorf("after the sweep:\n%s", after)
	}
}
