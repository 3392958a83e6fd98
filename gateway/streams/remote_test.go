package streams_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"

	"github.com/keelson-dev/keelson/gateway/nodes"
	"github.com/keelson-dev/keelson/gateway/nodes/nodestest"
	"github.com/keelson-dev/keelson/internal/linger"
)

// executors are the ways in which clients run commands.
var executors = map[string]func(*rest.Config, *url.URL) (remotecommand.Executor, error){
	"SPDY": func(config *rest.Config, location *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(config, http.MethodPost, location)
	},
	"SPDY by GET": func(config *rest.Config, location *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewSPDYExecutor(config, http.MethodGet, location)
	},
	"WebSocket v5": func(config *rest.Config, location *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutor(config, http.MethodGet, location.String())
	},
	"WebSocket v4": func(config *rest.Config, location *url.URL) (remotecommand.Executor, error) {
		return remotecommand.NewWebSocketExecutorForProtocols(config, http.MethodGet, location.String(), "v4.channel.k8s.io")
	},
}

type sizes struct {
	queue chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.queue
	if !ok {
		return nil
	}
	return &size
}

func TestExec(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			a := &agent{run: func(_ context.Context, s session) error {
				input, err := io.ReadAll(io.LimitReader(s.Stdin, 5))
				if err != nil {
					return err
				}
				fmt.Fprintf(s.Stdout, "%s %q %s", s.Path, s.Command, input)
				fmt.Fprint(s.Stderr, "complaint")
				return exit(3)
			}}
			f.AddAgent("n", a)
			f.PutPod(pod("p", "c"))
			runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&command=a+b%26&stdin=true&stdout=1&stderr=true"))
			if err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			err = runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &stdout, Stderr: &stderr})
			var code exec.CodeExitError
			if !errors.As(err, &code) || code.Code != 3 {
				t.Errorf("the command ended with %v, want code 3", err)
			}
			if want := `/exec/default/p/c ["sh" "-c" "a b&"] hello`; stdout.String() != want {
				t.Errorf("stdout is %q, want %q", stdout.String(), want)
			}
			if stderr.String() != "complaint" {
				t.Errorf("stderr is %q", stderr.String())
			}
		})
	}
}

func TestAttachWithATerminal(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", &agent{run: func(_ context.Context, s session) error {
				size := <-s.Resize
				fmt.Fprintf(s.Stdout, "%s %dx%d tty=%v", s.Path, size.Width, size.Height, s.TTY)
				return nil
			}})
			f.PutPod(pod("p", "a", "b"))
			runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/attach?container=b&stdin=true&stdout=true&tty=true"))
			if err != nil {
				t.Fatal(err)
			}
			queue := make(chan remotecommand.TerminalSize, 1)
			queue <- remotecommand.TerminalSize{Width: 80, Height: 24}
			defer close(queue)
			stdin, end := io.Pipe()
			defer func() { _ = end.Close() }()
			var stdout bytes.Buffer
			if err := runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: stdin, Stdout: &stdout, Tty: true, TerminalSizeQueue: sizes{queue}}); err != nil {
				t.Fatal(err)
			}
			if want := "/attach/default/p/b 80x24 tty=true"; stdout.String() != want {
				t.Errorf("stdout is %q, want %q", stdout.String(), want)
			}
		})
	}
}

func TestMuchOutputArrivesWhole(t *testing.T) {
	const size = 8 << 20
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			f.AddAgent("n", &agent{run: func(_ context.Context, s session) error {
				_, err := io.Copy(s.Stdout, io.LimitReader(s.Stdin, size))
				return err
			}})
			f.PutPod(pod("p", "c"))
			runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true"))
			if err != nil {
				t.Fatal(err)
			}
			input := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
			var stdout bytes.Buffer
			if err := runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: bytes.NewReader(input), Stdout: &stdout}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(stdout.Bytes(), input) {
				t.Errorf("%d bytes came back of %d, or not the same ones", stdout.Len(), size)
			}
		})
	}
}

func TestExecWithAToken(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			cluster := nodestest.New(t)
			locator, err := nodes.New(nodes.Options{Upstream: cluster.Upstream, Transport: cluster.TokenTransport("secret")})
			if err != nil {
				t.Fatal(err)
			}
			f := newFrontWith(t, cluster, locator)
			a := &agent{run: func(_ context.Context, s session) error {
				_, err := io.WriteString(s.Stdout, "hello")
				return err
			}}
			f.AddTokenAgent("n", a)
			f.PutPod(pod("p", "c"))
			config := f.config()
			config.BearerToken = "of the caller"
			runs, err := executor(config, f.path("/api/v1/namespaces/default/pods/p/exec?command=x&stdout=true"))
			if err != nil {
				t.Fatal(err)
			}
			var stdout bytes.Buffer
			if err := runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &stdout}); err != nil || stdout.String() != "hello" {
				t.Errorf("got %q, %v", stdout.String(), err)
			}
			_, headers := a.seen()
			for _, header := range headers {
				if diff := cmp.Diff([]string{"Bearer secret"}, header.Values("Authorization")); diff != "" {
					t.Errorf("credentials at the agent (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestAClientLeaves: whatever it was doing, the agent learns of it, and nothing of the
// session is left in the gateway.
func TestAClientLeaves(t *testing.T) {
	const sessions = 20
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			var started, ended sync.WaitGroup
			started.Add(sessions)
			ended.Add(sessions)
			f.AddAgent("n", &agent{run: func(_ context.Context, s session) error {
				defer ended.Done()
				fmt.Fprint(s.Stdout, "started")
				started.Done()
				_, err := io.Copy(io.Discard, s.Stdin) // ends with the connection
				return err
			}})
			f.PutPod(pod("p", "c"))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var clients sync.WaitGroup
			for range sessions {
				clients.Go(func() {
					runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=cat&stdin=true&stdout=true"))
					if err != nil {
						t.Error(err)
						return
					}
					stdin, end := io.Pipe()
					defer func() { _ = end.Close() }()
					if err := runs.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: stdin, Stdout: io.Discard}); !errors.Is(err, context.Canceled) {
						t.Errorf("a session ended with %v, want that its client left", err)
					}
				})
			}
			within(t, "all commands run", done(&started))
			leave()
			clients.Wait()
			within(t, "the agent has seen the end of all commands", done(&ended))
		})
	}
}

// TestAClientLeavesASilentCommand: no byte is written that could fail.
func TestAClientLeavesASilentCommand(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			started, closed := make(chan struct{}), make(chan struct{})
			f.AddAgent("n", silent(closed))
			f.PutPod(pod("p", "c"))
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=sleep&stdout=true"))
				if err != nil {
					t.Error(err)
					return
				}
				_ = runs.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &noticed{first: started}})
			}()
			within(t, "the command runs", started)
			leave()
			within(t, "the agent's connection is closed", closed)
			within(t, "the client is done", ended)
		})
	}
}

// TestAnAgentDies: clients see an end, and not a good one.
func TestAnAgentDies(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			started, die := make(chan struct{}), make(chan struct{})
			f.AddAgent("n", mortal(die))
			f.PutPod(pod("p", "c"))
			ended := make(chan error, 1)
			go func() {
				runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=sleep&stdin=true&stdout=true"))
				if err == nil {
					stdin, end := io.Pipe()
					defer func() { _ = end.Close() }()
					err = runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: stdin, Stdout: &noticed{first: started}})
				}
				ended <- err
			}()
			within(t, "the command runs", started)
			close(die)
			select {
			case err := <-ended:
				if err == nil && blames(protocol) {
					t.Error("the command ended well for the client when its agent died")
				}
			case <-time.After(patience):
				t.Fatal("the client still waits for an agent that died")
			}
		})
	}
}

// TestAGatewayStops: the end of its context ends the streams on both sides.
func TestAGatewayStops(t *testing.T) {
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			started, closed := make(chan struct{}), make(chan struct{})
			f.AddAgent("n", silent(closed))
			f.PutPod(pod("p", "c"))
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=sleep&stdout=true"))
				if err != nil {
					t.Error(err)
					return
				}
				if err := runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: &noticed{first: started}}); err == nil && blames(protocol) {
					t.Error("the command ended well for the client when the gateway stopped")
				}
			}()
			within(t, "the command runs", started)
			f.stop()
			within(t, "the agent's connection is closed", closed)
			within(t, "the client is done", ended)
		})
	}
}

// blames: SPDY clients of client-go take every end of the connection for a good one.
func blames(protocol string) bool { return strings.HasPrefix(protocol, "WebSocket") }

func done(group *sync.WaitGroup) <-chan struct{} {
	end := make(chan struct{})
	go func() {
		group.Wait()
		close(end)
	}()
	return end
}

// slow takes nothing before the gate is open.
type slow struct {
	gate <-chan struct{}
	bytes.Buffer
}

func (s *slow) Write(p []byte) (int, error) {
	<-s.gate
	return s.Buffer.Write(p)
}

// TestOutputIsNotCutByInputThatNobodyReads: a connection that is closed with unread input
// is reset, and what was on its way is gone.
func TestOutputIsNotCutByInputThatNobodyReads(t *testing.T) {
	const size = 128 << 10
	for protocol, executor := range executors {
		t.Run(protocol, func(t *testing.T) {
			f := newFront(t)
			finished := make(chan struct{})
			a := &agent{run: func(_ context.Context, s session) error {
				defer close(finished)
				if _, err := s.Stdin.Read(make([]byte, 1)); err != nil {
					return err
				}
				_, err := s.Stdout.Write(bytes.Repeat([]byte("x"), size))
				return err
			}}
			f.AddAgent("n", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				a.ServeHTTP(hooked{w, func(conn net.Conn) net.Conn { return patient{conn} }}, r)
			}))
			f.PutPod(pod("p", "c"))
			runs, err := executor(f.config(), f.path("/api/v1/namespaces/default/pods/p/exec?command=x&stdin=true&stdout=true"))
			if err != nil {
				t.Fatal(err)
			}
			gate := make(chan struct{})
			go func() {
				<-finished
				time.Sleep(300 * time.Millisecond) // the gateway closes, or waits for the client
				close(gate)
			}()
			stdout := &slow{gate: gate}
			if err := runs.StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdin: flood{}, Stdout: stdout}); err != nil {
				t.Errorf("the command ended with %v", err)
			}
			if stdout.Len() != size {
				t.Errorf("%d bytes arrived of %d", stdout.Len(), size)
			}
		})
	}
}

// patient closes as our agents do.
type patient struct{ net.Conn }

func (p patient) Close() error { return linger.Close(p.Conn, patience) }

// flood never ends.
type flood struct{}

func (flood) Read(p []byte) (int, error) { return len(p), nil }
