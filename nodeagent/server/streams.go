package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/klog/v2"
	"k8s.io/utils/exec"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// sessionIdleTimeout ends a session in which nothing moves, as in the kubelet.
	sessionIdleTimeout = 4 * time.Hour
	// maxRunOutput bounds what one /run keeps, in bytes, as containerd does.
	maxRunOutput = 16 << 20
)

func (s *Server) getExec(w http.ResponseWriter, r *http.Request) {
	options, pod, ok := s.session(w, r)
	if !ok {
		return
	}
	container, err := s.runningContainer(r, pod)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w, r, end := tied(w, r)
	defer end()
	remotecommand.ServeExec(w, r, commands{s.Streamer, *options}, container.ID, "", container.ID, r.URL.Query()["command"], options,
		sessionIdleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (s *Server) getAttach(w http.ResponseWriter, r *http.Request) {
	options, pod, ok := s.session(w, r)
	if !ok {
		return
	}
	container, err := s.runningContainer(r, pod)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w, r, end := tied(w, r)
	defer end()
	remotecommand.ServeAttach(w, r, commands{s.Streamer, *options}, container.ID, "", container.ID, options,
		sessionIdleTimeout, remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// session checks what exec and attach have in common; false means that it has answered.
func (s *Server) session(w http.ResponseWriter, r *http.Request) (*remotecommand.Options, *corev1.Pod, bool) {
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return nil, nil, false
	}
	pod := s.podOf(w, r, "pod does not exist")
	if pod == nil {
		return nil, nil, false
	}
	return options, pod, true
}

func (s *Server) getPortForward(w http.ResponseWriter, r *http.Request) {
	options, err := portforward.NewV4Options(r)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	pod := s.podOf(w, r, "pod does not exist")
	if pod == nil {
		return
	}
	if !isUID(r, pod.UID) {
		writeError(w, http.StatusNotFound, "pod not found")
		return
	}
	if err := s.hasSandbox(r.Context(), pod); err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w, r, end := tied(w, r)
	defer end()
	portforward.ServePortForward(w, r, ports{r.Context(), s.PortForward}, pod.Name, string(pod.UID), options,
		sessionIdleTimeout, remotecommand.DefaultStreamCreationTimeout, portforward.SupportedProtocols)
}

func (s *Server) hasSandbox(ctx context.Context, pod *corev1.Pod) error {
	state, err := s.Containers.Pod(ctx, pod.UID)
	if err != nil {
		return fmt.Errorf("asking the runtime for the pod: %w", err)
	}
	for _, sandbox := range state.Sandboxes {
		if sandbox.State == runtime.Running {
			return nil
		}
	}
	return fmt.Errorf("pod not found (%q)", pod.Name+"_"+pod.Namespace)
}

// getRun runs a command and answers with all its output.
func (s *Server) getRun(w http.ResponseWriter, r *http.Request) {
	pod := s.podOf(w, r, "pod does not exist")
	if pod == nil {
		return
	}
	container, err := s.runningContainer(r, pod)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	output := &bounded{}
	command := strings.Split(r.FormValue("cmd"), " ")
	err = s.Streamer.Exec(r.Context(), container.ID, command, runtime.Streams{Stdout: output, Stderr: output})
	if exit, ok := errors.AsType[*runtime.ExitError](err); ok {
		err = fmt.Errorf("command '%s' exited with %d: %s", strings.Join(command, " "), exit.Code, output.Bytes())
	}
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json") // as the kubelet says, whatever it is
	if _, err := w.Write(output.Bytes()); err != nil {
		klog.FromContext(r.Context()).V(2).Info("Cannot write the output of a command", "err", err)
	}
}

// bounded keeps the first bytes and drops the rest. Both outputs of a command write to
// it, at the same time.
type bounded struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept.Write(p[:min(len(p), maxRunOutput-b.kept.Len())])
	return len(p), nil
}

// Bytes is what was kept, after the command has ended.
func (b *bounded) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.Bytes()
}

// commands gives the streaming library the runtime, for a session with these options.
type commands struct {
	runtime.Streamer
	options remotecommand.Options
}

// ExecInContainer implements remotecommand.Executor.
func (c commands) ExecInContainer(ctx context.Context, _, _, container string, command []string,
	in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize, _ time.Duration,
) error {
	failure := c.Exec(ctx, container, command, c.streams(ctx, in, out, err, resize))
	if exit, ok := errors.AsType[*runtime.ExitError](failure); ok {
		return exec.CodeExitError{Err: fmt.Errorf("error executing command %v, exit code %d", command, exit.Code), Code: exit.Code}
	}
	return failure
}

// AttachContainer implements remotecommand.Attacher.
func (c commands) AttachContainer(ctx context.Context, _, _, container string,
	in io.Reader, out, err io.WriteCloser, _ bool, resize <-chan remotecommand.TerminalSize,
) error {
	return c.Attach(ctx, container, c.streams(ctx, in, out, err, resize))
}

// streams leaves out what the client did not ask for: over WebSockets every stream is
// there.
func (c commands) streams(ctx context.Context, in io.Reader, out, err io.Writer, resize <-chan remotecommand.TerminalSize) runtime.Streams {
	s := runtime.Streams{TTY: c.options.TTY}
	if c.options.Stdin {
		s.Stdin = in
	}
	if c.options.Stdout {
		s.Stdout = out
	}
	if c.options.Stderr && !c.options.TTY {
		s.Stderr = err
	}
	switch {
	case resize == nil:
	case c.options.TTY:
		s.Resize = sizes(ctx, resize)
	default:
		go drain(ctx, resize)
	}
	return s
}

func sizes(ctx context.Context, from <-chan remotecommand.TerminalSize) <-chan runtime.TerminalSize {
	to := make(chan runtime.TerminalSize)
	go func() {
		defer close(to)
		for size := range from {
			select {
			case to <- runtime.TerminalSize{Width: size.Width, Height: size.Height}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

func drain(ctx context.Context, from <-chan remotecommand.TerminalSize) {
	for {
		select {
		case _, ok := <-from:
			if !ok {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// ports gives the streaming library the Pod's ports. The library passes no context that
// ends with the session.
type ports struct {
	session context.Context
	forward PortForward
}

// PortForward implements portforward.PortForwarder.
func (p ports) PortForward(ctx context.Context, _, uid string, port int32, stream io.ReadWriteCloser) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.session, cancel)() //nolint:contextcheck // the one that is passed never ends, this one does
	return p.forward(ctx, types.UID(uid), port, stream)
}
