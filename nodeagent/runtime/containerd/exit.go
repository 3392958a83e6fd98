package containerd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Reasons of an exit, as the kubelet and containerd's CRI plug-in name them.
const (
	reasonCompleted     = "Completed"
	reasonError         = "Error"
	reasonOOMKilled     = "OOMKilled"
	reasonStartError    = runtime.ReasonStartError
	reasonStatusUnknown = "ContainerStatusUnknown"

	startErrorCode    = 128
	statusUnknownCode = 137
)

// ended is what containerd says about the end of a task. lost means that containerd
// knows nothing of a task that had run.
type ended struct {
	code uint32
	at   time.Time
	lost bool
}

// computeExit is the status of a container that has ended. oomKills is how many of its
// processes the kernel killed for lack of memory.
func computeExit(before status, e ended, oomKills int, now time.Time) status {
	after := before
	after.FinishedAt, after.ExitCode = e.at, int32(e.code)
	switch {
	case e.lost:
		after.FinishedAt, after.ExitCode, after.Reason = now, statusUnknownCode, reasonStatusUnknown
		after.Message = "The container was running, and is gone after a restart of the runtime or the machine: how it ended is not known"
	case e.code == 0:
		after.Reason = reasonCompleted
	case oomKills > 0:
		after.Reason = reasonOOMKilled
	default:
		after.Reason = reasonError
	}
	if after.FinishedAt.Before(after.StartedAt) {
		after.FinishedAt = after.StartedAt
	}
	if after.FinishedAt.IsZero() || after.FinishedAt.Unix() == 0 {
		after.FinishedAt = now
	}
	return after
}

// settle records the end of an object, deletes its task and then announces the end, in
// this order: what is announced is stored, and its output is in the log, because the
// shim answers to the deletion when the logger has ended. The object is busy.
func (r *Runtime) settle(ctx context.Context, o *object, e ended) error {
	if r.objects.facts(o).status.finished() {
		return r.deleteTask(ctx, o)
	}
	if o.record.Kind == kindContainer {
		return r.recordExit(ctx, o, e)
	}
	r.sandboxEnded(o)
	return r.deleteTask(ctx, o)
}

// sandboxEnded notes the end of a sandbox and announces it. There is nothing to store: one
// without a process, or without its namespaces, has ended. The object is busy.
func (r *Runtime) sandboxEnded(o *object) {
	r.objects.change(o, func(f *facts) { f.running, f.pid, f.status.FinishedAt = false, 0, r.options.Clock.Now() })
	r.events.publish(runtime.Event{Type: runtime.SandboxExited, PodUID: o.record.UID, ContainerID: o.id})
}

func (r *Runtime) recordExit(ctx context.Context, o *object, e ended) error {
	kills, err := r.machine.oomKills(o.record.CgroupPath)
	if err != nil && !e.lost && e.code != 0 {
		r.options.Log.V(2).Info("Cannot tell whether a container was out of memory", "container", o.id, "reason", err.Error())
	}
	after := computeExit(r.objects.facts(o).status, e, kills, r.options.Clock.Now())
	if err := r.store(ctx, o, after); err != nil {
		return err
	}
	// What is stored has happened, whether the task could be deleted or not.
	err = r.deleteTask(ctx, o)
	r.objects.change(o, func(f *facts) { f.running, f.pid, f.status = false, 0, after })
	r.events.publish(runtime.Event{Type: runtime.ContainerExited, PodUID: o.record.UID, ContainerID: o.id})
	return err
}

// store writes a container's status to containerd. A container that is gone needs none.
func (r *Runtime) store(ctx context.Context, o *object, s status) error {
	extension, err := encodeExtension(s)
	if err != nil {
		return err
	}
	_, err = r.client.ContainerService().Update(ctx, containers.Container{
		ID: o.id, Extensions: map[string]typeurl.Any{extensionStatus: extension},
	}, "extensions."+extensionStatus)
	if err != nil && !errdefs.IsNotFound(err) {
		return r.explain("store the status of container "+o.id, err)
	}
	return nil
}

// deleteTask frees what the shim holds for an ended task. The object is busy.
func (r *Runtime) deleteTask(ctx context.Context, o *object) error {
	o.taskLeft = true
	if err := r.releaseShim(ctx, o); err != nil {
		return err
	}
	_, err := r.client.TaskService().Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: o.id})
	if err = r.afterShim(ctx, o, native(err)); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("delete the task of "+o.id, err)
	}
	o.taskLeft = false
	r.endRelay(o)
	return nil
}

// killAndDeleteTask removes a task in whatever state. The object is busy.
func (r *Runtime) killAndDeleteTask(ctx context.Context, o *object) error {
	err := r.kill(ctx, o, sigkill)
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	if err == nil {
		_, err := r.client.TaskService().Wait(ctx, &tasks.WaitRequest{ContainerID: o.id})
		if err = r.afterShim(ctx, o, native(err)); err != nil && !errdefs.IsNotFound(err) {
			return r.explain("wait for the end of "+o.id, err)
		}
	}
	if err := r.deleteTask(ctx, o); err != nil {
		return fmt.Errorf("after killing it: %w", err)
	}
	return nil
}
