package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// portForward joins stream with a TCP port of the Pod until the Pod's side ends, stream
// fails, or ctx ends. It closes stream. The end of what the client sends is passed on
// and ends nothing else.
func (a *agent) portForward(ctx context.Context, podUID types.UID, port int32, stream io.ReadWriteCloser) error {
	conn, err := a.dialPod(ctx, podUID, port)
	if err != nil {
		return errors.Join(err, stream.Close())
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{stream})
		if half, ok := conn.(interface{ CloseWrite() error }); ok && err == nil {
			err = half.CloseWrite()
		}
		if err != nil {
			_ = conn.Close() // the client is gone, or the Pod does not read any more
		}
		sent <- err
	}()
	_, err = io.Copy(struct{ io.Writer }{stream}, struct{ io.Reader }{conn})
	_ = conn.Close()   // wakes the other direction when that writes
	_ = stream.Close() // and when it reads
	if sendErr := <-sent; errors.Is(err, net.ErrClosed) {
		err = sendErr // it is why the connection was closed
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("forwarding port %d: %w", port, err)
	}
	return nil
}

func (a *agent) dialPod(ctx context.Context, podUID types.UID, port int32) (net.Conn, error) {
	state, err := a.runtime.Pod(ctx, podUID)
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for the Pod: %w", err)
	}
	if len(state.Sandboxes) == 0 || state.Sandboxes[0].State != runtime.Running {
		return nil, fmt.Errorf("failed to forward port %d: sandbox container is not running", port)
	}
	if state.Sandboxes[0].HostNetwork {
		return network.DialLoopback(ctx, port)
	}
	return a.network.DialPod(ctx, podUID, port)
}
