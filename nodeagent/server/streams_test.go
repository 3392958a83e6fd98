package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/websocket"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// operator is allowed to run what it likes.
func operator(n *node) *node {
	n.reviews.tokens["operator"] = authenticationv1.UserInfo{Username: "operator"}
	n.reviews.allowed = []string{"operator create proxy", "operator get proxy"}
	return n
}

func (n *node) session(path string) remotecommand.Executor {
	n.t.Helper()
	where, err := url.Parse(n.url + path)
	if err != nil {
		n.t.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(n.restConfig("operator"), http.MethodPost, where)
	if err != nil {
		n.t.Fatal(err)
	}
	return executor
}

func TestExec(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.exec = func(_ context.Context, command []string, s runtime.Streams) error {
		if diff := cmp.Diff([]string{"cat", "a b"}, command); diff != "" {
			return fmt.Errorf("command (-want +got):\n%s", diff)
		}
		if s.TTY || s.Resize != nil {
			return errors.New("a terminal that nobody asked for")
		}
		if _, err := io.Copy(s.Stdout, s.Stdin); err != nil {
			return err
		}
		fmt.Fprint(s.Stderr, "done")
		return &runtime.ExitError{Code: 42}
	}
	n.start()
	var out, errs bytes.Buffer
	err := n.session("/exec/default/web/main?command=cat&command=a+b&input=1&output=1&error=1").StreamWithContext(t.Context(),
		remotecommand.StreamOptions{Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &errs})
	if code, ok := errors.AsType[exec.CodeExitError](err); !ok || code.Code != 42 {
		t.Errorf("ended with %v", err)
	}
	if out.String() != "input" || errs.String() != "done" {
		t.Errorf("output is %q, %q", out.String(), errs.String())
	}
	if diff := cmp.Diff([]string{"container-2"}, n.streamer.ids); diff != "" {
		t.Errorf("ran in (-want +got):\n%s", diff)
	}
}

func TestExecWithATerminal(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.exec = func(_ context.Context, _ []string, s runtime.Streams) error {
		if !s.TTY || s.Stderr != nil {
			return errors.New("no terminal")
		}
		for range 2 {
			size := <-s.Resize
			fmt.Fprintf(s.Stdout, "%dx%d ", size.Width, size.Height)
		}
		return nil
	}
	n.start()
	var out bytes.Buffer
	err := n.session("/exec/default/web/uid-1/main?command=sh&input=1&output=1&tty=1").StreamWithContext(t.Context(),
		remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &out, Tty: true, TerminalSizeQueue: &sizeQueue{{Width: 80, Height: 24}, {Width: 100, Height: 50}}})
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != "80x24 100x50 " {
		t.Errorf("sizes are %q", out.String())
	}
}

type sizeQueue []remotecommand.TerminalSize

func (q *sizeQueue) Next() *remotecommand.TerminalSize {
	if len(*q) == 0 {
		return nil
	}
	size := (*q)[0]
	*q = (*q)[1:]
	return &size
}

func TestExecEndsWhenItsClientLeaves(t *testing.T) {
	n := operator(newNode(t))
	running, ended := make(chan struct{}), make(chan error, 1)
	n.streamer.exec = func(ctx context.Context, _ []string, _ runtime.Streams) error {
		close(running)
		<-ctx.Done() // it reads and writes nothing: only the connection can tell
		ended <- ctx.Err()
		return ctx.Err()
	}
	n.start()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		result <- n.session("/exec/default/web/main?command=sleep&output=1").StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard})
	}()
	await(t, running, "the command runs")
	cancel()
	if err := await(t, ended, "the command has ended"); !errors.Is(err, context.Canceled) {
		t.Errorf("the command ended with %v", err)
	}
	if err := await(t, result, "the client has ended"); !errors.Is(err, context.Canceled) {
		t.Errorf("the client ended with %v", err)
	}
}

func TestExecEndsWithTheServer(t *testing.T) {
	n := operator(newNode(t))
	running, ended := make(chan struct{}), make(chan struct{})
	n.streamer.exec = func(ctx context.Context, _ []string, _ runtime.Streams) error {
		close(running)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	n.start()
	result := make(chan error, 1)
	go func() {
		result <- n.session("/exec/default/web/main?command=sleep&output=1").StreamWithContext(t.Context(), remotecommand.StreamOptions{Stdout: io.Discard})
	}()
	await(t, running, "the command runs")
	n.stop()
	await(t, ended, "the command has ended")
	if err := await(t, result, "the client has ended"); err == nil {
		t.Error("the client was told that all is well")
	}
}

func TestAttach(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.attach = func(_ context.Context, s runtime.Streams) error {
		if s.Stderr != nil {
			return errors.New("standard error that nobody asked for")
		}
		_, err := io.Copy(s.Stdout, s.Stdin)
		return err
	}
	n.start()
	var out bytes.Buffer
	err := n.session("/attach/default/web/main?input=1&output=1").StreamWithContext(t.Context(),
		remotecommand.StreamOptions{Stdin: strings.NewReader("hello"), Stdout: &out})
	if err != nil || out.String() != "hello" {
		t.Errorf("attached with %q, %v", out.String(), err)
	}
}

func TestSessionsThatCannotBegin(t *testing.T) {
	n := operator(newNode(t)).start()
	admin := n.admin()
	for path, want := range map[string]string{
		"/exec/default/web/main?command=x":                    "400 you must specify at least 1 of stdin, stdout, stderr",
		"/exec/default/db/main?command=x&output=1":            "404 pod does not exist",
		"/exec/default/web/ended?command=x&output=1":          `500 container not found ("ended")`,
		"/exec/default/web/side?command=x&output=1":           `500 container not found ("side")`,
		"/exec/default/web/other-uid/main?command=x&output=1": `500 container not found ("main")`,
		"/attach/default/web/ended?output=1":                  `500 container not found ("ended")`,
		"/attach/default/web/main":                            "400 you must specify at least 1 of stdin, stdout, stderr",
		"/portForward/default/db":                             "404 pod does not exist",
		"/portForward/default/web/other-uid":                  "404 pod not found",
		"/run/default/db/main?cmd=x":                          "404 pod does not exist",
		"/run/default/web/ended?cmd=x":                        `500 container not found ("ended")`,
	} {
		status, body := n.do(admin, http.MethodPost, path, "")
		if got := fmt.Sprintf("%d %s", status, body); got != want {
			t.Errorf("%s answers %s, want %s", path, got, want)
		}
	}
	if status, body := n.do(admin, http.MethodPost, "/exec/default/web/main?command=x&output=1", ""); status != 400 {
		t.Errorf("without an upgrade: %d %q", status, body)
	}
	n.runtime.KillSandbox(n.pod.UID)
	if status, body := n.do(admin, http.MethodPost, "/portForward/default/web", ""); status != 500 || body != `pod not found ("web_default")` {
		t.Errorf("without a sandbox: %d %q", status, body)
	}
}

func TestRun(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.exec = func(_ context.Context, command []string, s runtime.Streams) error {
		fmt.Fprint(s.Stdout, strings.Join(command, "|"))
		if command[0] == "false" {
			return &runtime.ExitError{Code: 1}
		}
		return nil
	}
	n.start()
	if status, body := n.do(n.admin(), http.MethodPost, "/run/default/web/main?cmd=echo+a", ""); status != 200 || body != "echo|a" {
		t.Errorf("a command answers %d %q", status, body)
	}
	if status, body := n.do(n.admin(), http.MethodPost, "/run/default/web/main?cmd=false", ""); status != 500 || body != "command 'false' exited with 1: false" {
		t.Errorf("a command that fails answers %d %q", status, body)
	}
}

// TestExecOverAWebSocket speaks v4.channel.k8s.io, as browsers do.
func TestExecOverAWebSocket(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.exec = func(_ context.Context, _ []string, s runtime.Streams) error {
		if s.Stderr != nil {
			return errors.New("standard error that nobody asked for")
		}
		line := make([]byte, 5)
		if _, err := io.ReadFull(s.Stdin, line); err != nil {
			return err
		}
		fmt.Fprintf(s.Stdout, "got %s", line)
		return &runtime.ExitError{Code: 3}
	}
	n.start()
	conn := n.webSocket("/exec/default/web/main?command=x&input=1&output=1")
	if err := websocket.Message.Send(conn, []byte("\x00hello")); err != nil {
		t.Fatal(err)
	}
	var output, status []byte
	for status == nil {
		var message []byte
		if err := websocket.Message.Receive(conn, &message); err != nil {
			t.Fatal(err)
		}
		switch message[0] {
		case 1:
			output = append(output, message[1:]...)
		case 3:
			status = message[1:]
		}
	}
	var got metav1.Status
	if err := json.Unmarshal(status, &got); err != nil {
		t.Fatal(err)
	}
	if string(output) != "got hello" || got.Reason != "NonZeroExitCode" || got.Details.Causes[0].Message != "3" {
		t.Errorf("output %q, status %s", output, status)
	}
}

func (n *node) webSocket(path string) *websocket.Conn {
	n.t.Helper()
	config, err := websocket.NewConfig("wss"+strings.TrimPrefix(n.url, "https")+path, n.url)
	if err != nil {
		n.t.Fatal(err)
	}
	config.TlsConfig = n.admin().Transport.(*http.Transport).TLSClientConfig
	config.Protocol = []string{"v4.channel.k8s.io"}
	conn, err := config.DialContext(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestPortForward(t *testing.T) {
	n := operator(newNode(t))
	n.streamer.forward = func(_ context.Context, port int32, stream io.ReadWriteCloser) error {
		if port != 8080 {
			return fmt.Errorf("nobody listens on %d", port)
		}
		request := make([]byte, 4)
		if _, err := io.ReadFull(stream, request); err != nil {
			return err
		}
		_, err := fmt.Fprintf(stream, "%s pong", request)
		return err
	}
	n.start()
	conn := n.forward("/portForward/default/web")
	for range 3 { // several connections over one session
		data, failure := n.forwarded(conn, "8080")
		if _, err := io.WriteString(data, "ping"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(data)
		if err != nil || string(answer) != "ping pong" {
			t.Errorf("answer is %q, %v", answer, err)
		}
		if text, err := io.ReadAll(failure); err != nil || len(text) > 0 {
			t.Errorf("failure is %q, %v", text, err)
		}
	}
	_, failure := n.forwarded(conn, "81")
	if text, err := io.ReadAll(failure); err != nil || !strings.Contains(string(text), "nobody listens on 81") {
		t.Errorf("failure is %q, %v", text, err)
	}
}

func TestPortForwardEndsWhenItsClientLeaves(t *testing.T) {
	n := operator(newNode(t))
	running, ended := make(chan struct{}), make(chan struct{})
	n.streamer.forward = func(ctx context.Context, _ int32, _ io.ReadWriteCloser) error {
		close(running)
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}
	n.start()
	conn := n.forward("/portForward/default/web")
	n.forwarded(conn, "8080")
	await(t, running, "the port is forwarded")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, ended, "the forwarding has ended")
}

// forward opens a session that forwards ports.
func (n *node) forward(path string) httpstream.Connection {
	n.t.Helper()
	transport, upgrader, err := spdy.RoundTripperFor(n.restConfig("operator"))
	if err != nil {
		n.t.Fatal(err)
	}
	where, err := url.Parse(n.url + path)
	if err != nil {
		n.t.Fatal(err)
	}
	conn, _, err := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, where).Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// forwarded opens one forwarded connection: its data, and what went wrong.
func (n *node) forwarded(conn httpstream.Connection, port string) (data, failure httpstream.Stream) {
	n.t.Helper()
	n.requests++
	headers := http.Header{}
	headers.Set(corev1.PortHeader, port)
	headers.Set(corev1.PortForwardRequestIDHeader, strconv.Itoa(n.requests))
	open := func(kind string) httpstream.Stream {
		headers.Set(corev1.StreamType, kind)
		stream, err := conn.CreateStream(headers)
		if err != nil {
			n.t.Fatal(err)
		}
		return stream
	}
	failure = open(corev1.StreamTypeError)
	if err := failure.Close(); err != nil { // its writing side: nothing is sent there
		n.t.Fatal(err)
	}
	return open(corev1.StreamTypeData), failure
}

// await returns what comes from ch.
func await[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case got := <-ch:
		return got
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

func TestBothOutputsOfACommandAreKept(t *testing.T) {
	const writes, size = 2000, 64
	output := &bounded{}
	var outputs sync.WaitGroup
	for range 2 {
		outputs.Go(func() {
			for range writes {
				if n, err := output.Write(make([]byte, size)); n != size || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
			}
		})
	}
	outputs.Wait()
	if got := len(output.Bytes()); got != 2*writes*size {
		t.Errorf("%d bytes were kept of %d", got, 2*writes*size)
	}
}
