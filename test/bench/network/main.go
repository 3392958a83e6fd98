// Command network measures what the Pod network costs: how many bytes a second go from
// one machine to another, from a Pod of one to a Pod of the other, by plain routes and
// through VXLAN. The machines are two network namespaces joined by a veth pair, so the
// processor is the limit and not a wire.
//
// It needs root and changes nothing outside of namespaces that end with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

const childEnv = "KEELSON_BENCH_NETWORK_CHILD"

func main() {
	streams := flag.Int("streams", 4, "TCP connections at once.")
	seconds := flag.Float64("seconds", 2, "Length of one measurement.")
	rounds := flag.Int("rounds", 5, "Measurements of each way, taken in turn.")
	flag.Parse()
	if err := run(*streams, time.Duration(*seconds*float64(time.Second)), *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "bench/network:", err)
		os.Exit(1)
	}
}

func run(streams int, length time.Duration, rounds int) error {
	if os.Getenv(childEnv) == "" {
		return again()
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach from the machine's mounts: %w", err)
	}
	dir, err := os.MkdirTemp("", "keelson-bench-network-")
	if err != nil {
		return err
	}
	l := &lab{dir: dir}
	ways, err := l.build(context.Background())
	if err == nil {
		err = measureAll(ways, streams, length, rounds)
	}
	return errors.Join(err, l.clean())
}

// again runs this program in namespaces of its own.
func again() error {
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), childEnv+"=1")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return child.Run()
}

// way is from a namespace to an address that a namespace has.
type way struct {
	name     string
	from, at string
	to       netip.Addr
	results  []float64
}

// lab is two pairs of machines: one with plain routes, one with VXLAN.
type lab struct {
	dir   string
	paths []string
}

func (l *lab) build(ctx context.Context) ([]*way, error) {
	var ways []*way
	for _, mode := range []overlay.Mode{overlay.HostGW, overlay.VXLAN} {
		pair, err := l.pair(ctx, mode)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", mode, err)
		}
		a, b := pair[0], pair[1]
		if mode == overlay.HostGW {
			ways = append(ways, &way{name: "machine to machine, bare", from: a.path, at: b.path, to: b.ip})
		}
		ways = append(ways, &way{name: "Pod to Pod, " + string(mode), from: a.pod.NetNSPath, at: b.pod.NetNSPath, to: b.pod.IP})
		if mode == overlay.VXLAN {
			ways = append(ways, &way{name: "machine to machine, vxlan", from: a.path, at: b.path, to: b.pod.Gateway})
		}
	}
	return ways, nil
}

type computer struct {
	name, path string
	ip         netip.Addr
	pod        network.PodNetwork
}

// pair makes two machines on one wire, with a Pod each that reach each other.
func (l *lab) pair(ctx context.Context, mode overlay.Mode) ([2]*computer, error) {
	var pair [2]*computer
	var peers []overlay.Node
	kernel := netlinkx.New()
	for i := range pair {
		name := fmt.Sprintf("%s-%d", mode, i)
		c := &computer{name: name, path: filepath.Join(l.dir, name), ip: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})}
		if err := kernel.CreateNamespace(c.path); err != nil {
			return pair, err
		}
		l.paths = append(l.paths, c.path)
		pair[i] = c
		peers = append(peers, overlay.Node{Name: name, IPs: []netip.Addr{c.ip}, Ranges: ranges.List{podRange(i)}})
	}
	err := kernel.InNamespace(pair[0].path, func(h netlinkx.Handle) error {
		return h.AddVeth(netlinkx.Veth{Name: "wire", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, PeerName: "wire", PeerMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, PeerNS: pair[1].path, MTU: 1500})
	})
	if err != nil {
		return pair, err
	}
	for i, c := range pair {
		if err := kernel.InNamespace(c.path, func(h netlinkx.Handle) error { return l.start(ctx, h, c, mode, podRange(i), peers) }); err != nil {
			return pair, fmt.Errorf("machine %s: %w", c.name, err)
		}
	}
	return pair, nil
}

func podRange(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i), 0}), 24)
}

// start does what the agent does; it runs in the machine's namespace.
func (l *lab) start(ctx context.Context, h netlinkx.Handle, c *computer, mode overlay.Mode, pods netip.Prefix, peers []overlay.Node) error {
	lo, err := h.Link("lo")
	if err != nil {
		return err
	}
	wire, err := h.Link("wire")
	if err != nil {
		return err
	}
	if err := errors.Join(h.SetUp(lo.Index), h.SetUp(wire.Index), h.ReplaceAddr(netlinkx.Addr{Link: wire.Index, Prefix: netip.PrefixFrom(c.ip, 24)})); err != nil {
		return err
	}
	cfg := network.DefaultConfig()
	cfg.NodeName, cfg.NodeIPs, cfg.Overlay = c.name, []netip.Addr{c.ip}, mode
	cfg.StateDir, cfg.NetNSDir = filepath.Join(l.dir, c.name+".state"), filepath.Join(l.dir, c.name+".pods")
	n := network.New(cfg)
	if err := n.Configure(ctx, ranges.List{pods}); err != nil {
		return err
	}
	if c.pod, err = n.Setup(ctx, network.PodRef{UID: types.UID(c.name), Namespace: "bench", Name: c.name}); err != nil {
		return err
	}
	l.paths = append(l.paths, c.pod.NetNSPath)
	problems, err := n.SetPeers(ctx, peers, false)
	if len(problems) > 0 {
		err = errors.Join(err, fmt.Errorf("problems: %v", problems))
	}
	return err
}

func (l *lab) clean() error {
	var errs []error
	for _, path := range slices.Backward(l.paths) {
		errs = append(errs, netlinkx.New().DeleteNamespace(path))
	}
	return errors.Join(append(errs, os.RemoveAll(l.dir))...)
}

func measureAll(ways []*way, streams int, length time.Duration, rounds int) error {
	for range rounds {
		for _, w := range ways {
			rate, err := measure(w, streams, length)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.results = append(w.results, rate)
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	fmt.Printf("%d streams, %d rounds of %s, load %s", streams, rounds, length, load)
	bare := median(ways[0].results)
	for _, w := range ways {
		m := median(w.results)
		fmt.Printf("%-28s %6.2f Gbit/s  %.2f of bare  (%.2f to %.2f)\n", w.name, m, m/bare, slices.Min(w.results), slices.Max(w.results))
	}
	return nil
}

func median(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

// measure returns how many Gbit a second reach the other side.
func measure(w *way, streams int, length time.Duration) (float64, error) {
	var listener net.Listener
	if err := netlinkx.New().InNamespace(w.at, func(netlinkx.Handle) (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(w.to, 0).String())
		return err
	}); err != nil {
		return 0, err
	}
	defer listener.Close()
	var received atomic.Int64
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				defer conn.Close()
				buffer := make([]byte, 256<<10)
				for {
					n, err := conn.Read(buffer)
					received.Add(int64(n))
					if err != nil {
						return // the sender is done
					}
				}
			}()
		}
	}()
	conns, err := dial(w, listener.Addr().String(), streams)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	var sending sync.WaitGroup
	for _, conn := range conns {
		sending.Go(func() { send(conn, start.Add(length)) })
	}
	sending.Wait()
	return float64(received.Load()) * 8 / time.Since(start).Seconds() / 1e9, nil
}

func dial(w *way, address string, streams int) (conns []net.Conn, err error) {
	err = netlinkx.New().InNamespace(w.from, func(netlinkx.Handle) error {
		for range streams {
			conn, err := net.DialTimeout("tcp4", address, 10*time.Second)
			if err != nil {
				return err
			}
			conns = append(conns, conn)
		}
		return nil
	})
	return conns, err
}

// send writes until the time is over.
func send(conn io.WriteCloser, end time.Time) {
	defer conn.Close()
	block := make([]byte, 256<<10)
	for time.Now().Before(end) {
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}
