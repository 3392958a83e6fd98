package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// askers is how many lookups are under way at a time.
const askers = 8

// lookups asks for a name without a pause and says how often, and how many lookups
// failed, each with what its resolver sent and got.
func lookups(ctx context.Context, name, duration string) error {
	during, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	end := time.Now().Add(during)
	var asked, failed atomic.Int64
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				asked.Add(1)
				if err := lookup(ctx, name); err != nil {
					failed.Add(1)
					fmt.Println(err)
				}
			}
		})
	}
	all.Wait()
	fmt.Printf("asked %d failed %d\n", asked.Load(), failed.Load())
	return nil
}

// lookup asks once, as a program does. The error ends in every exchange with a server.
func lookup(ctx context.Context, name string) error {
	var seen evidence
	resolver := net.Resolver{PreferGo: true, Dial: seen.dial}
	if _, err := resolver.LookupHost(ctx, name); err != nil {
		return fmt.Errorf("%w%s", err, &seen)
	}
	return nil
}

// evidence is what a lookup's resolver sent and got.
type evidence struct {
	mu        sync.Mutex
	exchanges []*exchange
}

func (e *evidence) dial(ctx context.Context, network, server string) (net.Conn, error) {
	started := time.Now()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, server)
	x := &exchange{Conn: conn, network: network, server: server, started: started, err: err}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exchanges = append(e.exchanges, x)
	if err != nil {
		return nil, err
	}
	if network == "udp" {
		return datagrams{x, conn.(net.PacketConn)}, nil
	}
	return x, nil
}

// String is a line for each exchange, in the order in which they began.
func (e *evidence) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var text strings.Builder
	for _, x := range e.exchanges {
		fmt.Fprintf(&text, "\n\t%s", x)
	}
	return text.String()
}

// exchange is a connection to a server for one question, which remembers both.
type exchange struct {
	net.Conn
	network, server string
	started         time.Time

	mu        sync.Mutex
	sent, got []byte
	ended     time.Time
	err       error
}

// datagrams tells the resolver that a connection is one of UDP, by its methods.
type datagrams struct {
	*exchange
	packets net.PacketConn
}

func (d datagrams) ReadFrom(b []byte) (int, net.Addr, error)   { return d.packets.ReadFrom(b) }
func (d datagrams) WriteTo(b []byte, to net.Addr) (int, error) { return d.packets.WriteTo(b, to) }

func (x *exchange) Write(b []byte) (int, error) {
	n, err := x.Conn.Write(b)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sent, x.err = append(x.sent, b[:n]...), err
	return n, err
}

func (x *exchange) Read(b []byte) (int, error) {
	n, err := x.Conn.Read(b)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.got, x.err, x.ended = append(x.got, b[:n]...), err, time.Now()
	return n, err
}

func (x *exchange) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	from := "no port"
	if x.Conn != nil {
		from = x.LocalAddr().String()
	}
	return fmt.Sprintf("%s %s from %s to %s: asked %s, after %s got %s, %v", x.started.Format("15:04:05.000000"),
		x.network, from, x.server, message(x.sent), x.ended.Sub(x.started), message(x.got), x.err)
}

// message is a DNS message in words: of TCP, without the length before it.
func message(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	var m dns.Msg
	if err := m.Unpack(b); err != nil && len(b) > 2 && m.Unpack(b[2:]) != nil {
		return fmt.Sprintf("%d bytes (%v)", len(b), err)
	}
	var words []string
	for _, q := range m.Question {
		words = append(words, dns.TypeToString[q.Qtype])
	}
	if m.Response {
		words = append(words, fmt.Sprintf("%s with %d records", dns.RcodeToString[m.Rcode], len(m.Answer)))
	}
	return strings.Join(words, " ")
}
