package streams_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// dialers are the ways in which clients forward ports.
var dialers = map[string]func(*rest.Config, *url.URL) (httpstream.Dialer, error){
	"SPDY": func(config *rest.Config, location *url.URL) (httpstream.Dialer, error) {
		transport, upgrader, err := spdy.RoundTripperFor(config)
		return spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, location), err
	},
	"SPDY over WebSocket": func(config *rest.Config, location *url.URL) (httpstream.Dialer, error) {
		return portforward.NewSPDYOverWebsocketDialerForStreaming(location, config)
	},
}

const forwardPath = "/api/v1/namespaces/default/pods/p/portforward"

// echo answers with the port and what it reads, in capitals.
func echo(port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	fmt.Fprintf(stream, "%d:", port)
	buffer := make([]byte, 1024)
	for {
		n, err := stream.Read(buffer)
		if _, err := stream.Write(bytes.ToUpper(buffer[:n])); err != nil {
			return nil
		}
		if err != nil {
			return nil
		}
	}
}

// forward forwards a free local port to port 80 of the Pod, until ctx ends.
func forward(t *testing.T, ctx context.Context, dialer httpstream.Dialer) (address string, ended <-chan error) {
	t.Helper()
	ready, end := make(chan struct{}), make(chan error, 1)
	forwarder, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{":80"}, ctx.Done(), ready, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	go func() { end <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-end:
		t.Fatalf("forward ports: %v", err)
	case <-time.After(patience):
		t.Fatal("the forwarder is not ready")
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0].Local), end
}

func say(t *testing.T, address, words string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, words); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestPortForward(t *testing.T) {
	for protocol, dial := range dialers {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", &agent{forward: echo})
			f.PutPod(pod("p", "c"))
			dialer, err := dial(f.config(), f.path(forwardPath))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			address, ended := forward(t, ctx, dialer)
			long := strings.Repeat("abcdefgh", 1<<17)
			for _, words := range []string{"hello", "again", long} {
				if got, want := say(t, address, words), "80:"+strings.ToUpper(words); got != want {
					t.Errorf("%d bytes came back as %d bytes", len(words), len(got))
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("forwarding ended with %v", err)
			}
		})
	}
}

func TestAPortForwardingClientLeaves(t *testing.T) {
	for protocol, dial := range dialers {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			closed := make(chan struct{})
			a := &agent{forward: echo}
			f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a.ServeHTTP(hooked{w, func(conn net.Conn) net.Conn { return &reporting{Conn: conn, closed: closed} }}, r)
			}))
			f.PutPod(pod("p", "c"))
			dialer, err := dial(f.config(), f.path(forwardPath))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			address, ended := forward(t, ctx, dialer)
			say(t, address, "hello")
			stop()
			if err := <-ended; err != nil {
				t.Errorf("forwarding ended with %v", err)
			}
			within(t, "the agent's connection is closed", closed)
		})
	}
}

func TestAGatewayThatStopsEndsPortForwarding(t *testing.T) {
	for protocol, dial := range dialers {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", &agent{forward: echo})
			f.PutPod(pod("p", "c"))
			dialer, err := dial(f.config(), f.path(forwardPath))
			if err != nil {
				t.Fatal(err)
			}
			address, ended := forward(t, t.Context(), dialer)
			say(t, address, "hello")
			f.stop()
			select {
			case err := <-ended:
				if err == nil {
					t.Error("forwarding ended well when the gateway stopped")
				}
			case <-time.After(patience):
				t.Error("the client still forwards to a gateway that stopped")
			}
		})
	}
}

// TestPortForwardByOldWebSockets: the protocol before the tunnel, with two channels for
// each port, goes through as it is.
func TestPortForwardByOldWebSockets(t *testing.T) {
	f := newFront(t)
	f.AddAgent("n", &agent{forward: echo})
	f.PutPod(pod("p", "c"))
	location := f.path(forwardPath + "?ports=80,81")
	location.Scheme = "ws"
	dialer := websocket.Dialer{Subprotocols: []string{"v4.channel.k8s.io"}}
	conn, response, err := dialer.Dial(location.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if err := conn.WriteMessage(websocket.BinaryMessage, []byte("\x02hello")); err != nil {
		t.Fatal(err)
	}
	got := map[byte]string{}
	for !strings.HasSuffix(got[2], "HELLO") {
		_, frame, err := conn.ReadMessage()
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got[frame[0]] += string(frame[1:])
	}
	for channel, port := range map[byte]uint16{0: 80, 1: 80, 2: 81, 3: 81} {
		if begin := got[channel]; channel != 0 && (len(begin) < 2 || binary.LittleEndian.Uint16([]byte(begin)) != port) {
			t.Errorf("channel %d begins with %q, want port %d", channel, begin, port)
		}
	}
	if want := "81:HELLO"; got[2][2:] != want {
		t.Errorf("got %q, want %q", got[2][2:], want)
	}
}
