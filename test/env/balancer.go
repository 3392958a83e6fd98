package env

import (
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// Balancer passes TCP connections on to replicas in turn, as a Service does. A connection
// stays with its replica as long as both ends want it.
type Balancer struct {
	listener net.Listener
	replicas []string
	next     atomic.Uint32
	only     atomic.Pointer[string]
	wg       sync.WaitGroup
}

// NewBalancer serves until the test ends; replicas are addresses with a port.
func NewBalancer(t testing.TB, replicas ...string) *Balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{listener: listener, replicas: replicas}
	b.wg.Go(b.serve)
	t.Cleanup(func() {
		listener.Close()
		b.wg.Wait()
	})
	return b
}

// URL is where the replicas are found, by HTTPS.
func (b *Balancer) URL() string {
	return "https://localhost:" + strconv.Itoa(b.listener.Addr().(*net.TCPAddr).Port)
}

// Only sends new connections to one replica; "" means to all again.
func (b *Balancer) Only(replica string) { b.only.Store(&replica) }

func (b *Balancer) serve() {
	for {
		from, err := b.listener.Accept()
		if err != nil {
			return
		}
		go pass(from, b.pick())
	}
}

func (b *Balancer) pick() string {
	if only := b.only.Load(); only != nil && *only != "" {
		return *only
	}
	return b.replicas[int(b.next.Add(1))%len(b.replicas)]
}

func pass(from net.Conn, replica string) {
	defer from.Close()
	to, err := net.Dial("tcp", replica)
	if err != nil {
		return // the caller sees its connection end
	}
	defer to.Close()
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(from, to)
}
