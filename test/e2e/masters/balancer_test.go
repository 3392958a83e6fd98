package masters

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	// checkPeriod is how often a server is asked whether it is ready, checkTimeout how long
	// for an answer; so many bad answers in a row mark it down.
	checkPeriod  = 500 * time.Millisecond
	checkTimeout = 3 * time.Second
	checkFalls   = 2
	dialTimeout  = 2 * time.Second
)

// balancer does what templates/haproxy.cfg of the example says: it passes connections on
// to servers that are ready, in turn, and cuts those to one that is not any more.
type balancer struct {
	listener net.Listener
	client   *http.Client
	stop     chan struct{}
	wg       sync.WaitGroup

	mu      sync.Mutex
	servers []*balanced
	next    int
}

type balanced struct {
	address string
	ready   bool
	bad     int
	// open are the connections to it.
	open map[net.Conn]bool
}

// startBalancer serves at address until the test ends.
func startBalancer(t *testing.T, address string, servers ...string) {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	must(t, err)
	b := &balancer{listener: listener, stop: make(chan struct{}), client: &http.Client{Timeout: checkTimeout, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // as haproxy's "verify none": it carries nothing
	}}}
	for _, server := range servers {
		s := &balanced{address: server, open: map[net.Conn]bool{}}
		b.servers = append(b.servers, s)
		b.wg.Go(func() { b.follow(s) })
	}
	b.wg.Go(b.serve)
	t.Cleanup(func() {
		close(b.stop)
		_ = listener.Close()
		for _, s := range b.servers {
			b.mark(s, errors.New("the test ends"), checkFalls)
		}
		b.wg.Wait()
	})
}

// follow asks a server again and again whether it is ready.
func (b *balancer) follow(s *balanced) {
	tick := time.NewTicker(checkPeriod)
	defer tick.Stop()
	for {
		b.mark(s, b.check(s), 1)
		select {
		case <-b.stop:
			return
		case <-tick.C:
		}
	}
}

func (b *balancer) check(s *balanced) error {
	response, err := b.client.Get("https://" + s.address + "/readyz")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// mark counts bad answers, and cuts the connections to a server that has given enough.
func (b *balancer) mark(s *balanced, err error, count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		s.ready, s.bad = true, 0
		return
	}
	if s.bad += count; s.bad < checkFalls {
		return
	}
	s.ready = false
	for conn := range s.open {
		_ = conn.Close()
	}
}

func (b *balancer) serve() {
	for {
		from, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() { b.pass(from) })
	}
}

// pick returns a server that is ready, or nil.
func (b *balancer) pick() *balanced {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.servers {
		b.next++
		if s := b.servers[b.next%len(b.servers)]; s.ready {
			return s
		}
	}
	return nil
}

// pass copies both ways until one end closes, or the server is marked down.
func (b *balancer) pass(from net.Conn) {
	defer from.Close()
	s := b.pick()
	if s == nil {
		return // the client sees its connection end
	}
	to, err := net.DialTimeout("tcp", s.address, dialTimeout)
	if err != nil {
		return
	}
	defer to.Close()
	if !b.hold(s, to, from) {
		return
	}
	defer b.release(s, to, from)
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(to, from)
		_ = to.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(from, to)
	_ = from.Close()
	<-done
}

// hold notes connections as those to a server, unless it was marked down meanwhile.
func (b *balancer) hold(s *balanced, conns ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range conns {
		s.open[conn] = true
	}
	return s.ready
}

func (b *balancer) release(s *balanced, conns ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range conns {
		delete(s.open, conn)
	}
}
