package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var _ runtime.Streamer = (*Runtime)(nil)

var (
	errSlow   = errors.New("the client reads too slowly and was left behind")
	errClosed = errors.New("the node agent ends")
)

// Attach implements runtime.Streamer. The output of a container that is not interactive
// comes from its log.
func (r *Runtime) Attach(ctx context.Context, containerID string, streams runtime.Streams) error {
	o, err := r.runningContainer(ctx, containerID)
	if err != nil {
		return fmt.Errorf("failed to attach to container: %w", err)
	}
	if !o.record.interactive() {
		out := logs.Output{Stdout: streams.Stdout, Stderr: streams.Stderr}
		if err := logs.Follow(ctx, o.record.LogPath, o.exited, out); err != nil {
			return fmt.Errorf("attach to container: %w", err)
		}
		return nil
	}
	o.busy.Lock()
	y := o.relay
	o.busy.Unlock()
	if y == nil {
		return fmt.Errorf("attach to container %s: its streams are closed", containerID)
	}
	if err := r.attach(ctx, o, y, streams); err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	return nil
}

// attach serves one client of an interactive container.
func (r *Runtime) attach(ctx context.Context, o *object, y *relay, streams runtime.Streams) error {
	c := y.join()
	defer y.leave(c)
	life, stop := context.WithCancel(ctx)
	defer stop()
	if o.record.TTY {
		go r.followSize(life, o.id, "", streams)
	}
	detached := make(chan struct{})
	if o.record.Stdin && streams.Stdin != nil {
		go func() {
			if detach := r.feedContainer(life, o, y, streams.Stdin); detach {
				close(detached)
			}
		}()
	}
	for {
		select {
		case piece := <-c.chunks:
			if err := piece.write(streams); err != nil {
				return err
			}
		case <-c.slow:
			return errSlow
		case <-detached:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-y.done:
			return r.finish(ctx, o, c, streams, detached)
		}
	}
}

// finish writes what is still on its way and waits for the end of the container, which
// may outlive its output.
func (r *Runtime) finish(ctx context.Context, o *object, c *relayClient, streams runtime.Streams, detached <-chan struct{}) error {
	for {
		select {
		case piece := <-c.chunks:
			if err := piece.write(streams); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case <-o.exited:
			return nil
		case <-detached:
			return nil
		case <-r.closed:
			return errClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c chunk) write(streams runtime.Streams) error {
	to := streams.Stdout
	if c.stderr {
		to = streams.Stderr
	}
	if to == nil {
		return nil
	}
	if _, err := to.Write(c.data); err != nil {
		return fmt.Errorf("write the output of the container: %w", err)
	}
	return nil
}

// feedContainer copies a client's input and says whether its end is the end of the
// session, as in containerd's CRI plug-in.
func (r *Runtime) feedContainer(ctx context.Context, o *object, y *relay, from io.Reader) (detach bool) {
	input, err := y.openInput()
	if err == nil {
		stop := context.AfterFunc(ctx, func() { y.leaveInput(input) })
		// An error is the end of the client or of the container; both show elsewhere.
		_, _ = io.Copy(struct{ io.Writer }{input}, struct{ io.Reader }{from})
		stop()
		y.leaveInput(input)
	} else if !errors.Is(err, errInputClosed) {
		r.options.Log.Error(err, "Cannot attach to the input of a container", "container", o.id)
	}
	if !o.record.StdinOnce || o.record.TTY {
		return err == nil
	}
	if err != nil {
		return false
	}
	// Also when the client is gone: its session was the one that the input was open for.
	y.closeInput()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), execTimeout)
	defer cancel()
	if err := r.closeStdin(ctx, o.id, ""); err != nil {
		r.options.Log.Error(err, "Cannot close the input of a container", "container", o.id)
	}
	return false
}
