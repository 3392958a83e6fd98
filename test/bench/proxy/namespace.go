package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netns"
)

// namespace is a network namespace that stands for a node. All endpoints that are asked
// live in it; what is not translated goes nowhere.
type namespace struct {
	name, link string
	// serverIP is this end of the pair of interfaces, nodeIP the one in the namespace.
	serverIP, nodeIP string
	listener         net.Listener
	served           sync.WaitGroup
}

// prober is an address of every namespace.
const prober = "198.18.78.1"

// newNamespace makes one; index tells those apart that exist at the same time.
func newNamespace(ctx context.Context, index int) (*namespace, error) {
	id := fmt.Sprintf("%d-%d", os.Getpid(), index)
	n := &namespace{
		name: "kbench" + id, link: "kbe" + id,
		serverIP: fmt.Sprintf("198.18.77.%d", 4*index+1), nodeIP: fmt.Sprintf("198.18.77.%d", 4*index+2),
	}
	commands := []string{
		"netns add " + n.name,
		"link add " + n.link + " type veth peer name eth0 netns " + n.name,
		"addr add " + n.serverIP + "/30 dev " + n.link,
		"link set " + n.link + " up",
		"-n " + n.name + " link set lo up",
		"-n " + n.name + " addr add " + n.nodeIP + "/30 dev eth0",
		"-n " + n.name + " link set eth0 up",
		"-n " + n.name + " route add default dev lo src " + n.nodeIP,
	}
	commands = append(commands, "-n "+n.name+" addr add "+prober+"/32 dev lo")
	for probe := range probes {
		for which := range 2 {
			commands = append(commands, fmt.Sprintf("-n %s addr add %s/32 dev lo", n.name, listener(probe, which)))
		}
	}
	for _, command := range commands {
		if out, err := exec.CommandContext(ctx, "ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("ip %s: %w: %s", command, err, out), n.remove())
		}
	}
	var err error
	n.listener, err = within(n, func() (net.Listener, error) {
		if err := os.WriteFile("/proc/sys/net/ipv4/tcp_tw_reuse", []byte("1"), 0o644); err != nil {
			return nil, err
		}
		return net.Listen("tcp4", fmt.Sprintf(":%d", endpointPort))
	})
	if err != nil {
		return nil, errors.Join(err, n.remove())
	}
	n.served.Go(n.serve)
	return n, nil
}

// serve answers each request with the address that it came to.
func (n *namespace) serve() {
	server := http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			_, _ = io.WriteString(w, local.IP.String()) // the client sees what is missing
		}
	})}
	_ = server.Serve(n.listener) // until it is closed
}

func (n *namespace) remove() error {
	if n.listener != nil {
		_ = n.listener.Close()
		n.served.Wait()
	}
	var errs []error
	// The kernel removes the pair of interfaces with the namespace, but some time later.
	for _, command := range []string{"link del " + n.link, "netns del " + n.name} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("ip %s: %w: %s", command, err, out))
		}
	}
	return errors.Join(errs...)
}

// command is a program that runs in the namespace; its process is the program's own.
func (n *namespace) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name, program}, args...)...)
}

// within calls f on a thread of the namespace. The thread ends with it.
func within[T any](n *namespace, f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		var o outcome
		defer func() { done <- o }()
		ns, err := netns.GetFromName(n.name)
		if err != nil {
			o.err = err
			return
		}
		defer func() { _ = ns.Close() }()
		if o.err = netns.Set(ns); o.err == nil {
			o.value, o.err = f()
		}
	}()
	o := <-done
	return o.value, o.err
}

// client returns an HTTP client whose every request has a connection of its own, opened
// in the namespace.
// The address it comes from is prober for attempts that may fail: the kernel would keep
// what became of them, and give it to later connections with the same ports.
func (n *namespace) client(patience time.Duration, from string) *http.Client {
	dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	dial := make(chan func(), 1)
	go func() {
		_, _ = within(n, func() (struct{}, error) {
			for f := range dial {
				f()
			}
			return struct{}{}, nil
		})
	}()
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			done := make(chan struct{})
			dial <- func() {
				// The transport does not end the attempt with the request.
				conn, err = dialer.DialContext(ctx, network, address)
				close(done)
			}
			<-done
			return conn, err
		}}}
}

// ask returns which endpoint answers for a Service.
func ask(ctx context.Context, client *http.Client, ip netip.Addr) (netip.Addr, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:%d/", ip, servicePort), nil)
	if err != nil {
		return netip.Addr{}, err
	}
	response, err := client.Do(request)
	if err != nil {
		return netip.Addr{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(string(body))
}

// countRules returns the number of rules of the namespace.
func (n *namespace) countRules(ctx context.Context) (int, error) {
	out, err := n.command(ctx, "iptables-save").Output()
	return strings.Count(string(out), "\n-A "), err
}

// backend says which iptables the machine has.
func backend() string {
	out, err := exec.Command("iptables", "--version").Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}
