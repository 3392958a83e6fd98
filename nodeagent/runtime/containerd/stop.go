package containerd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"
)

const sigkill = syscall.SIGKILL

// errGone says that there is no process left to signal.
var errGone = errors.New("process has ended")

// StopContainer implements runtime.Runtime.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := r.ensureSynced(ctx); err != nil {
		return err
	}
	if o := r.objects.get(id); o != nil {
		return r.stopObject(ctx, o, grace)
	}
	return nil
}

// StopSandbox implements runtime.Runtime. The pause program has nothing to finish, so
// it is killed at once.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	return r.StopContainer(ctx, id, 0)
}

func (r *Runtime) stopObject(ctx context.Context, o *object, grace time.Duration) error {
	if !r.isRunning(o) {
		return nil
	}
	if o.record.Held != nil {
		return r.stopHeld(o)
	}
	if grace > 0 {
		if err := r.kill(ctx, o, signalOf(o.record.StopSignal)); err != nil {
			return r.afterKill(ctx, o, err)
		}
		timer := r.options.Clock.NewTimer(grace)
		defer timer.Stop()
		if ended, err := r.waitEnd(ctx, o, timer); ended || err != nil {
			return err
		}
	}
	if err := r.kill(ctx, o, sigkill); err != nil {
		return r.afterKill(ctx, o, err)
	}
	_, err := r.waitEnd(ctx, o, nil)
	return err
}

// isRunning waits for a start in progress to show its result.
func (r *Runtime) isRunning(o *object) bool {
	o.busy.Lock()
	defer o.busy.Unlock()
	return r.objects.facts(o).running
}

// waitEnd returns true when the object's end is recorded, false when the timer fired.
func (r *Runtime) waitEnd(ctx context.Context, o *object, timer clock.Timer) (bool, error) {
	var fired <-chan time.Time
	if timer != nil {
		fired = timer.C()
	}
	select {
	case <-o.exited:
		return true, nil
	case <-fired:
		return false, nil
	case <-ctx.Done():
		return false, fmt.Errorf("wait for the end of container %s: %w", o.id, ctx.Err())
	}
}

func (r *Runtime) kill(ctx context.Context, o *object, signal syscall.Signal) error {
	_, err := r.client.TaskService().Kill(ctx, &tasks.KillRequest{ContainerID: o.id, Signal: uint32(signal)})
	if err = r.afterShim(ctx, o, native(err)); errdefs.IsNotFound(err) {
		return errGone
	}
	if err != nil {
		return r.explain(fmt.Sprintf("send %s to %s", unix.SignalName(signal), o.id), err)
	}
	return nil
}

// afterKill handles a signal that could not be sent. When the process had ended
// already, its exit event may have been lost, so the facts are read again.
func (r *Runtime) afterKill(ctx context.Context, o *object, err error) error {
	if !errors.Is(err, errGone) {
		return err
	}
	if err := r.settleNow(ctx, o); err != nil {
		return err
	}
	_, err = r.waitEnd(ctx, o, nil)
	return err
}

// signalOf parses STOPSIGNAL of an image: a name with or without SIG, or a number.
// What it cannot read is SIGTERM.
func signalOf(text string) syscall.Signal {
	text = strings.ToUpper(strings.TrimSpace(text))
	if number, err := strconv.Atoi(text); err == nil && number > 0 && number < 65 {
		return syscall.Signal(number)
	}
	if !strings.HasPrefix(text, "SIG") {
		text = "SIG" + text
	}
	if signal := unix.SignalNum(text); signal != 0 {
		return signal
	}
	return syscall.SIGTERM
}
