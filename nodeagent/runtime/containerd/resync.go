package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sync/errgroup"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// resyncParallelism bounds how many objects are settled at once.
const resyncParallelism = 8

// action is what a comparison asks for.
type action string

const (
	actionNone action = "none"
	// actionAdopt: it runs.
	actionAdopt action = "adopt"
	// actionEnd: it has ended and that is not stored yet.
	actionEnd action = "end"
	// actionLost: it had been started and containerd knows nothing of it.
	actionLost action = "lost"
	// actionClear: a task is left that nobody needs.
	actionClear action = "clear"
)

// decide compares what is stored about an object with its task, nil when there is none.
func decide(k kind, s status, task *tasktypes.Process) action {
	if task != nil && task.Status == tasktypes.Status_UNKNOWN {
		return actionNone // its shim does not answer now
	}
	switch {
	case s.finished() && task == nil:
		return actionNone
	case s.finished():
		return actionClear
	case task == nil && k == kindSandbox:
		return actionEnd
	case task == nil && s.StartedAt.IsZero():
		return actionNone
	case task == nil:
		return actionLost
	case task.Status == tasktypes.Status_STOPPED:
		return actionEnd
	case task.Status == tasktypes.Status_CREATED && k == kindSandbox:
		return actionEnd
	case task.Status == tasktypes.Status_CREATED:
		return actionClear
	default: // running, pausing or paused
		return actionAdopt
	}
}

// resync makes the table equal to what containerd holds and settles what happened
// while nobody looked.
func (r *Runtime) resync(ctx context.Context) error {
	r.resyncing.Lock()
	defer r.resyncing.Unlock()
	return r.resyncLocked(ctx)
}

func (r *Runtime) resyncLocked(ctx context.Context) error {
	subscription := r.trust.begin()
	// What changes after this line is newer than what the lists say.
	known := r.objects.changes()
	kept, err := r.keptShims(ctx) // first: an entry is made when its container is there
	if err != nil {
		return err
	}
	stored, err := r.client.ContainerService().List(ctx)
	if err != nil {
		return r.explain("list containers", err)
	}
	listed, err := r.client.TaskService().List(ctx, &tasks.ListTasksRequest{})
	if err != nil {
		return r.explain("list tasks", err)
	}
	running := make(map[string]*tasktypes.Process, len(listed.Tasks))
	for _, task := range listed.Tasks {
		running[task.ID] = task
	}

	var group errgroup.Group
	group.SetLimit(resyncParallelism)
	present := make(map[string]bool, len(stored))
	for _, container := range stored {
		present[container.ID] = true
		record, status, ours, err := decode(container)
		if err != nil {
			r.options.Log.Error(err, "Cannot read a container of this namespace, it is left alone", "container", container.ID)
		}
		if err != nil || !ours {
			continue
		}
		changes, old := known[container.ID]
		o := r.objects.put(record, facts{status: status})
		_ = selinux.ReserveLabelV2(record.ProcessLabel) // two Pods may have asked for one label
		group.Go(func() error { return r.compare(ctx, o, running[o.id], kept[o.id], changes, old) })
	}
	for id, changes := range known {
		if !present[id] {
			r.dropIfUnchanged(id, changes)
		}
	}
	for id := range kept {
		if !present[id] {
			group.Go(func() error { return r.forgetShim(ctx, id) })
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := r.sweep(ctx, present); err != nil {
		return err
	}
	r.trust.end(subscription)
	return nil
}

// compare settles one object, which has the task and whose shim is kept as the lists say,
// unless something newer is known of it.
func (r *Runtime) compare(ctx context.Context, o *object, task *tasktypes.Process, kept bool, changes uint64, old bool) error {
	o.busy.Lock()
	defer o.busy.Unlock()
	now := r.objects.facts(o)
	if old && now.changes != changes || !old && now.changes != 0 {
		return nil
	}
	o.shimKept = kept
	if o.record.Held != nil {
		return r.settleHeld(o)
	}
	return r.act(ctx, o, task, decide(o.record.Kind, now.status, task))
}

// settleNow reads one object's task and acts on it.
func (r *Runtime) settleNow(ctx context.Context, o *object) error {
	o.busy.Lock()
	defer o.busy.Unlock()
	return r.settleBusy(ctx, o)
}

func (r *Runtime) settleBusy(ctx context.Context, o *object) error {
	if o.record.Held != nil {
		return r.settleHeld(o)
	}
	task, err := r.task(ctx, o)
	if err != nil {
		return err
	}
	return r.act(ctx, o, task, decide(o.record.Kind, r.objects.facts(o).status, task))
}

// task returns nil when containerd has none for the object.
func (r *Runtime) task(ctx context.Context, o *object) (*tasktypes.Process, error) {
	got, err := r.client.TaskService().Get(ctx, &tasks.GetRequest{ContainerID: o.id})
	if err = native(err); errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, r.explain("read the task of "+o.id, err)
	}
	return got.Process, nil
}

func (r *Runtime) act(ctx context.Context, o *object, task *tasktypes.Process, do action) error {
	if task != nil {
		r.resumeRelay(o)
	}
	switch do {
	case actionAdopt:
		return r.adopt(ctx, o, task)
	case actionEnd:
		if task != nil && task.Status == tasktypes.Status_CREATED {
			if err := r.killAndDeleteTask(ctx, o); err != nil {
				return err
			}
		}
		e := ended{at: r.options.Clock.Now()}
		if task != nil && task.ExitedAt != nil {
			e = ended{code: task.ExitStatus, at: task.ExitedAt.AsTime()}
		}
		return r.settle(ctx, o, e)
	case actionLost:
		return r.settle(ctx, o, ended{lost: true})
	case actionClear:
		return r.killAndDeleteTask(ctx, o)
	default:
		return nil
	}
}

// adopt takes over a running task that an earlier process, or a call whose answer was
// lost, has started.
func (r *Runtime) adopt(ctx context.Context, o *object, task *tasktypes.Process) error {
	started := r.objects.facts(o).status
	if o.record.Kind == kindContainer && !o.shimKept { // whoever started it died before, or had an older containerd
		r.noteShim(ctx, o)
	}
	if o.record.Kind == kindContainer && started.StartedAt.IsZero() {
		started.StartedAt = r.options.Clock.Now()
		if err := r.store(ctx, o, started); err != nil {
			return err
		}
	}
	if f := r.objects.facts(o); f.running && f.pid == task.Pid {
		return nil
	}
	r.objects.change(o, func(f *facts) { f.running, f.pid, f.status = true, task.Pid, started })
	return nil
}

// dropIfUnchanged forgets an object that somebody else removed from containerd.
func (r *Runtime) dropIfUnchanged(id string, changes uint64) {
	o := r.objects.get(id)
	if o == nil {
		return
	}
	o.busy.Lock()
	defer o.busy.Unlock()
	if r.objects.facts(o).changes != changes {
		return
	}
	r.options.Log.Info("Container was removed behind the agent's back", "container", id)
	if err := r.removeFiles(o); err != nil {
		r.options.Log.Error(err, "Cannot remove the files of a container, they are swept at the next start", "container", id)
	}
	r.objects.remove(o)
}

// sweep ends and removes, once in a process's life, what an earlier process left:
// commands in containers, and the files of sandboxes and containers that are gone.
func (r *Runtime) sweep(ctx context.Context, present map[string]bool) error {
	if r.swept {
		return nil
	}
	r.sweepExecs(ctx)
	err := errors.Join(
		sweepDir(filepath.Join(r.options.StateDir, "sandboxes"), present, removeDir),
		sweepDir(r.streamsDir(), present, os.RemoveAll),
		sweepDir(r.mappedDir(""), nil, userns.UnbindAll)) // they are of use to a start only
	if err != nil {
		return fmt.Errorf("sweep files of sandboxes and containers that are gone: %w", err)
	}
	r.swept = true
	return nil
}

// sweepDir removes what is in a folder and named by nothing that is present.
func sweepDir(parent string, present map[string]bool, remove func(string) error) error {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	problems := []error{err}
	for _, entry := range entries {
		if !present[entry.Name()] {
			problems = append(problems, remove(filepath.Join(parent, entry.Name())))
		}
	}
	return errors.Join(problems...)
}
