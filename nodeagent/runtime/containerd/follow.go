package containerd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	eventtypes "github.com/containerd/containerd/api/events"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/typeurl/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	// markerTopic is where this process announces that its subscription stands.
	markerTopic = "/keelson/subscribed"
	// markerInterval is how often it does, until it hears itself.
	markerInterval = 20 * time.Millisecond
	retryInterval  = time.Second
)

// follow keeps a subscription to containerd's events until ctx ends. After every
// (re)connection it compares everything, because events may have been missed.
func (r *Runtime) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := r.client.IsServing(ctx); err != nil { // waits for the daemon
			if ctx.Err() == nil {
				r.options.Log.V(2).Info("Waiting for containerd", "address", r.options.Address, "reason", err.Error())
				r.pauseFor(ctx, retryInterval)
			}
			continue
		}
		err := r.followOnce(ctx)
		r.trust.broken()
		if ctx.Err() == nil {
			r.options.Log.Info("Lost containerd's events, will subscribe again", "reason", err.Error())
			r.pauseFor(ctx, markerInterval)
		}
	}
}

func (r *Runtime) pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-r.options.Clock.After(d):
	case <-ctx.Done():
	}
}

// followOnce subscribes, resyncs and handles events until the stream breaks.
// What it starts for an event may outlive the stream, but not life.
func (r *Runtime) followOnce(life context.Context) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	stream, failed := r.client.EventService().Subscribe(ctx, "namespace=="+strconv.Quote(r.options.Namespace))
	if err := r.confirmSubscribed(ctx, stream, failed); err != nil {
		return err
	}
	r.trust.subscribed()
	// Events wait in the stream meanwhile: handlers start after the comparison.
	resynced := make(chan error, 1)
	go func() { resynced <- r.resync(ctx) }()
	for {
		select {
		case err := <-resynced:
			if err != nil {
				return err
			}
			r.events.publish(runtime.Event{Type: runtime.Resync})
		case envelope := <-stream:
			r.handle(life, envelope)
		case err := <-failed:
			if err == nil {
				err = errors.New("event stream ended")
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// confirmSubscribed returns when the daemon has registered the subscription, which
// the call itself does not tell: it publishes a marker until the marker arrives.
func (r *Runtime) confirmSubscribed(ctx context.Context, stream <-chan *events.Envelope, failed <-chan error) error {
	marker := &eventtypes.NamespaceUpdate{Name: r.options.Namespace}
	for {
		if err := r.client.EventService().Publish(ctx, markerTopic, marker); err != nil {
			return fmt.Errorf("announce the event subscription: %w", err)
		}
		again := r.options.Clock.After(markerInterval)
	listen:
		for {
			select {
			case envelope := <-stream:
				if envelope.Topic == markerTopic {
					return nil
				} // else it happened before the comparison that follows
			case <-again:
				break listen
			case err := <-failed:
				return fmt.Errorf("subscribe to events: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// handle reacts to the end of a container's first process. It does not wait.
func (r *Runtime) handle(ctx context.Context, envelope *events.Envelope) {
	if envelope.Topic != "/tasks/exit" {
		return
	}
	decoded, err := typeurl.UnmarshalAny(envelope.Event)
	if err != nil {
		r.options.Log.Error(err, "Cannot decode an event of containerd", "topic", envelope.Topic)
		return
	}
	exit, ok := decoded.(*eventtypes.TaskExit)
	if !ok || exit.ID != exit.ContainerID { // an exec
		return
	}
	o := r.objects.get(exit.ContainerID)
	if o == nil {
		return
	}
	r.done.Go(func() {
		o.busy.Lock()
		defer o.busy.Unlock()
		if err := r.exited(ctx, o, ended{code: exit.ExitStatus, at: exit.ExitedAt.AsTime()}); err != nil && ctx.Err() == nil {
			r.trust.doubt() // the next comparison finds the ended task again
			r.options.Log.Error(err, "Cannot record the exit of a container", "container", o.id)
		}
	})
}

// exited deals with an exit event. The object is busy.
func (r *Runtime) exited(ctx context.Context, o *object, e ended) error {
	f := r.objects.facts(o)
	switch {
	case f.running:
		return r.settle(ctx, o, e)
	case f.status.finished():
		return nil
	default:
		// A failed start, or a comparison that has not come to this object yet and
		// still believes that it runs.
		return r.settleBusy(ctx, o)
	}
}
