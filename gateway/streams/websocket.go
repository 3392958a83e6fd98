package streams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	wire "k8s.io/apimachinery/pkg/util/remotecommand"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/klog/v2"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/keelson-dev/keelson/gateway/nodes"
)

const (
	// idleTimeout ends a session in which nothing was sent either way, as upstream does.
	idleTimeout = 4 * time.Hour
	// statusTimeout bounds the wait for a client to take how its command ended.
	statusTimeout = 10 * time.Second
)

// translation joins a client that speaks the WebSocket protocol v5.channel.k8s.io with
// an agent that speaks SPDY.
//
// k8s.io/apiserver has the same as StreamTranslatorHandler, which tells the client of a
// success when the agent's connection breaks: its SPDY client takes the end of the
// stream in which the command's status comes for a status. Here it is an error.
type translation struct {
	conn    *wsstream.Conn
	streams []io.ReadWriteCloser
}

// serveWebSocket relays one command or attachment. Once the client's connection is taken
// over, all errors go into the protocol's error channel.
func serveWebSocket(w http.ResponseWriter, r *http.Request, agent *nodes.Agent, location *url.URL, options *corev1.PodExecOptions) {
	t, err := openWebSocket(w, r, options)
	if err != nil {
		// The library has answered.
		klog.FromContext(r.Context()).V(2).Info("Refused a WebSocket", "path", r.URL.Path, "err", err)
		return
	}
	defer func() { _ = t.conn.Close() }() // the client may be gone
	ended := t.run(r.Context(), agent, location, options)
	if err := t.finish(ended); err != nil {
		klog.FromContext(r.Context()).V(2).Info("Could not tell a client how its command ended", "path", r.URL.Path, "ended", ended, "err", err)
	}
}

func openWebSocket(w http.ResponseWriter, r *http.Request, options *corev1.PodExecOptions) (*translation, error) {
	channels := make([]wsstream.ChannelType, wire.StreamResize+1)
	for channel, used := range map[int]struct {
		as   wsstream.ChannelType
		when bool
	}{
		wire.StreamStdIn:  {wsstream.ReadChannel, options.Stdin},
		wire.StreamStdOut: {wsstream.WriteChannel, options.Stdout},
		wire.StreamStdErr: {wsstream.WriteChannel, options.Stderr},
		wire.StreamErr:    {wsstream.WriteChannel, true},
		wire.StreamResize: {wsstream.ReadChannel, true},
	} {
		channels[channel] = wsstream.IgnoreChannel
		if used.when {
			channels[channel] = used.as
		}
	}
	conn := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		wire.StreamProtocolV5Name: {Binary: true, Channels: channels},
	})
	conn.SetIdleTimeout(idleTimeout)
	_, streams, err := conn.Open(w, r)
	if err != nil {
		return nil, err
	}
	t := &translation{conn: conn, streams: streams}
	// An empty message tells the client that the connection stands.
	first := wire.StreamErr
	switch {
	case options.Stdout:
		first = wire.StreamStdOut
	case options.Stderr:
		first = wire.StreamStdErr
	}
	if _, err := streams[first].Write(nil); err != nil {
		return nil, errors.Join(fmt.Errorf("greet the client: %w", err), conn.Close())
	}
	return t, nil
}

// run returns how the command ended.
func (t *translation) run(ctx context.Context, agent *nodes.Agent, location *url.URL, options *corev1.PodExecOptions) error {
	executor, err := dialAgent(agent, location)
	if err != nil {
		return err
	}
	relayed := remotecommand.StreamOptions{Tty: options.TTY}
	if options.Stdin {
		relayed.Stdin = t.streams[wire.StreamStdIn]
	}
	if options.Stdout {
		relayed.Stdout = t.streams[wire.StreamStdOut]
	}
	if options.Stderr {
		relayed.Stderr = t.streams[wire.StreamStdErr]
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	sizes := terminalSizes{ctx: ctx, queue: make(chan remotecommand.TerminalSize)}
	go sizes.read(t.streams[wire.StreamResize])
	if options.TTY {
		relayed.TerminalSizeQueue = sizes
	}
	return executor.StreamWithContext(ctx, relayed)
}

// finish tells the client how the command ended.
func (t *translation) finish(ended error) error {
	body, err := json.Marshal(statusOf(ended))
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	t.conn.SetWriteDeadline(statusTimeout)
	_, err = t.streams[wire.StreamErr].Write(body)
	return err
}

// statusOf is the end of a command as the protocol has it.
func statusOf(ended error) metav1.Status {
	var (
		exited exec.CodeExitError
		api    apierrors.APIStatus
	)
	switch {
	case ended == nil:
		return metav1.Status{Status: metav1.StatusSuccess}
	case errors.As(ended, &exited) && exited.Exited():
		return metav1.Status{
			Status:  metav1.StatusFailure,
			Reason:  wire.NonZeroExitCodeReason,
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: wire.ExitCodeCauseType, Message: strconv.Itoa(exited.ExitStatus())}}},
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exited),
		}
	case errors.As(ended, &api):
		return api.Status()
	default:
		return apierrors.NewInternalError(ended).Status()
	}
}

// terminalSizes hands the sizes of the client's terminal on.
type terminalSizes struct {
	ctx   context.Context
	queue chan remotecommand.TerminalSize
}

func (s terminalSizes) read(from io.Reader) {
	defer close(s.queue)
	decoder := json.NewDecoder(from)
	for {
		var size remotecommand.TerminalSize
		if decoder.Decode(&size) != nil {
			return // the client left, or sends no sizes but nonsense
		}
		select {
		case s.queue <- size:
		case <-s.ctx.Done():
			return
		}
	}
}

// Next returns nil when there is no next size.
func (s terminalSizes) Next() *remotecommand.TerminalSize {
	select {
	case size, ok := <-s.queue:
		if ok {
			return &size
		}
	case <-s.ctx.Done():
	}
	return nil
}
