package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

// echo listens on loopback, answers each connection with what it read to its end, and
// returns the port.
func echo(t *testing.T) int32 {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprint(conn, "hello ")
				data, _ := io.ReadAll(conn) // a client that leaves gets no answer
				fmt.Fprintf(conn, "%s", data)
			}()
		}
	}()
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

func forwardingAgent(t *testing.T) (*agent, *fake.Runtime) {
	t.Helper()
	r := fake.New(clock.RealClock{})
	return &agent{dependencies: dependencies{runtime: r, network: &fakeNetwork{}}}, r
}

func TestPortForward(t *testing.T) {
	tests := map[string]runtime.SandboxConfig{
		"a Pod with its own network":     {NetNSPath: "/netns/a"},
		"a Pod in the machine's network": {},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			a, r := forwardingAgent(t)
			config.UID = "a"
			if _, err := r.RunSandbox(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			client, stream := tcpPair(t)
			done := make(chan error, 1)
			go func() { done <- a.portForward(t.Context(), "a", echo(t), stream) }()
			fmt.Fprint(client, "there")
			if err := client.CloseWrite(); err != nil { // the other direction goes on
				t.Fatal(err)
			}
			got, err := io.ReadAll(client)
			if err != nil || string(got) != "hello there" {
				t.Errorf("got %q, %v", got, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPortForwardEndsWithItsClient(t *testing.T) {
	a, r := forwardingAgent(t)
	if _, err := r.RunSandbox(t.Context(), runtime.SandboxConfig{PodIdentity: runtime.PodIdentity{UID: "a"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	client, stream := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- a.portForward(ctx, "a", echo(t), stream) }()
	if _, err := io.ReadFull(client, make([]byte, len("hello "))); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestPortForwardFails(t *testing.T) {
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(closed.Addr().(*net.TCPAddr).Port)
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		uid  string
		want string
	}{
		"nobody listens":    {"a", fmt.Sprintf("failed to connect to localhost:%d, IPv4: dial tcp4 127.0.0.1:%d: connect: connection refused", port, port)},
		"no sandbox":        {"b", "sandbox container is not running"},
		"a stopped sandbox": {"c", "sandbox container is not running"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, r := forwardingAgent(t)
			for _, uid := range []string{"a", "c"} {
				config := runtime.SandboxConfig{PodIdentity: runtime.PodIdentity{UID: types.UID(uid)}, NetNSPath: "/netns/" + uid}
				if _, err := r.RunSandbox(t.Context(), config); err != nil {
					t.Fatal(err)
				}
			}
			r.KillSandbox("c")
			client, stream := tcpPair(t)
			err := a.portForward(t.Context(), types.UID(test.uid), port, stream)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if got, err := io.ReadAll(client); err != nil || len(got) > 0 {
				t.Errorf("the client read %q, %v", got, err)
			}
		})
	}
}

// tcpPair are two ends of a connection.
func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dialled.Close()
		_ = accepted.Close()
	})
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

var _ podNetwork = (*network.Network)(nil)
