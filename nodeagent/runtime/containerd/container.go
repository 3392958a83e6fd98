package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types"
	taskstate "github.com/containerd/containerd/api/types/task"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// CreateContainer implements runtime.Runtime.
func (r *Runtime) CreateContainer(ctx context.Context, config runtime.ContainerConfig) (string, error) {
	if err := r.ensureSynced(ctx); err != nil {
		return "", err
	}
	sandbox, err := r.sandboxOf(config)
	if err != nil {
		return "", err
	}
	image, err := r.lookup(ctx, config.ImageRef)
	if err != nil {
		return "", err
	}
	if image == nil {
		return "", fmt.Errorf("create container %s: image %q is not on this machine", config.Name, config.ImageRef)
	}
	user, err := r.userOf(ctx, image, config.Security)
	if err != nil {
		return "", err
	}
	if err := checkMapped(user, config); err != nil {
		return "", err
	}
	record := record{
		Kind: kindContainer, PodIdentity: config.PodIdentity, Attempt: config.Attempt,
		CreatedAt: r.options.Clock.Now(), Container: config.Name, SandboxID: config.SandboxID,
		Image: config.Image, ImageID: image.Digest, ChainID: image.chainID, SpecHash: config.SpecHash,
		LogPath: config.LogPath, StopSignal: image.StopSignal,
		TerminationMessageHostPath: config.TerminationMessageHostPath,
		Stdin:                      config.Stdin, StdinOnce: config.Stdin && config.StdinOnce, TTY: config.TTY,
		Resources: &config.Resources, User: numbersOf(user), Users: config.Users,
	}
	record.CgroupPath = cgroupPath(config.CgroupParent, record.id())
	target, err := r.pidTarget(config, r.objects.facts(sandbox).pid)
	if err != nil {
		return "", err
	}
	in := specInput{
		config: config, image: image.Image, user: user, cgroupPath: record.CgroupPath,
		held: sandbox.record.Held, sandboxPID: r.objects.facts(sandbox).pid, targetPID: target, shm: r.shmOf(config), machine: r.machine,
	}
	if err := r.clearRemains(ctx, record.id()); err != nil {
		return "", err
	}
	spec, err := r.render(&in, &record, sandbox.record.ProcessLabel)
	if err != nil {
		return "", err
	}
	o := r.objects.put(record, facts{})
	o.busy.Lock()
	defer o.busy.Unlock()
	// The object first: it protects the file system from containerd's collector.
	err = r.createObject(ctx, o, spec, containers.Container{Image: image.Ref, Snapshotter: r.options.Snapshotter, SnapshotKey: o.id})
	if err == nil {
		err = r.prepareRootfs(ctx, o)
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		return "", errors.Join(err, r.discard(clean, o))
	}
	return o.id, nil
}

// sandboxOf is the sandbox of a new container, which runs and has what the container joins.
func (r *Runtime) sandboxOf(config runtime.ContainerConfig) (*object, error) {
	sandbox := r.objects.get(config.SandboxID)
	if sandbox == nil || !r.objects.facts(sandbox).running {
		return nil, fmt.Errorf("create container %s: sandbox %s is not running", config.Name, config.SandboxID)
	}
	if sandbox.record.Held != nil && (config.SharePID || config.Users != nil) {
		return nil, fmt.Errorf("create container %s: sandbox %s has no process whose PID or user namespace it could join", config.Name, config.SandboxID)
	}
	return sandbox, nil
}

// render reads from the machine what the container's rights take, renders its spec and
// notes in the record what the start needs beside it. podLabel is that of the Pod's processes.
func (r *Runtime) render(in *specInput, to *record, podLabel string) (_ *specs.Spec, err error) {
	if err := in.label(to, podLabel); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			selinux.ReleaseLabel(to.ProcessLabel)
		}
	}()
	if err := in.readSecurity(); err != nil {
		return nil, err
	}
	spec, err := containerSpec(*in)
	if err != nil {
		return nil, err
	}
	if err := relabel(in.config.Mounts, to.MountLabel); err != nil {
		return nil, err
	}
	if in.config.Users != nil {
		r.mapMounts(to, spec, in.config.Mounts)
		applyUsers(spec, fmt.Sprintf("/proc/%d/ns/user", in.sandboxPID), in.config.Users)
	}
	return spec, nil
}

// pidTarget is the process whose PID namespace a new container joins, 0 for none.
func (r *Runtime) pidTarget(config runtime.ContainerConfig, sandboxPID uint32) (uint32, error) {
	if config.PIDTargetID == "" && config.SharePID {
		return sandboxPID, nil
	}
	if config.PIDTargetID == "" {
		return 0, nil
	}
	target := r.objects.get(config.PIDTargetID)
	if target == nil || target.record.UID != config.UID {
		return 0, fmt.Errorf("create container %s: its target container %s does not exist", config.Name, config.PIDTargetID)
	}
	f := r.objects.facts(target)
	if !f.running || f.pid == 0 {
		return 0, fmt.Errorf("create container %s: its target container %s is not running - in state %s", config.Name, target.record.Container, criState(stateOf(f)))
	}
	return f.pid, nil
}

// prepareRootfs makes the container's file system, or finds the one that is there.
func (r *Runtime) prepareRootfs(ctx context.Context, o *object) error {
	if o.rootfs != nil {
		return nil
	}
	snapshotter := r.client.SnapshotService(r.options.Snapshotter)
	mounts, err := snapshotter.Prepare(ctx, o.id, o.record.ChainID)
	if errdefs.IsAlreadyExists(native(err)) {
		mounts, err = snapshotter.Mounts(ctx, o.id)
	}
	if err != nil {
		r.images.forget()
		return r.explain("prepare the file system of container "+o.id, err)
	}
	o.rootfs = mountsOf(mounts)
	withContext(o.rootfs, o.record.MountLabel)
	return nil
}

func mountsOf(mounts []mount.Mount) []*tasktypes.Mount {
	converted := make([]*tasktypes.Mount, 0, len(mounts))
	for _, m := range mounts {
		converted = append(converted, &tasktypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options})
	}
	return converted
}

// StartContainer implements runtime.Runtime.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	if err := r.ensureSynced(ctx); err != nil {
		return err
	}
	o := r.objects.get(id)
	if o == nil {
		return fmt.Errorf("start container %s: it does not exist", id)
	}
	o.busy.Lock()
	defer o.busy.Unlock()
	f := r.objects.facts(o)
	if f.running {
		return nil
	}
	if f.status.finished() {
		return fmt.Errorf("start container %s: it has run already", id)
	}
	if o.taskLeft { // an earlier start was interrupted
		if settled, err := r.resumeStart(ctx, o); settled || err != nil {
			return err
		}
	}
	err := r.startTask(ctx, o)
	if !isStartError(err) {
		return err
	}
	return r.recordStartError(ctx, o, err)
}

// resumeStart finds out what became of an interrupted start. It returns true when the
// container runs or has run.
func (r *Runtime) resumeStart(ctx context.Context, o *object) (bool, error) {
	task, err := r.task(ctx, o)
	if err != nil {
		return false, err
	}
	if task != nil && task.Status != taskstate.Status_CREATED {
		return true, r.act(ctx, o, task, decide(o.record.Kind, r.objects.facts(o).status, task))
	}
	return false, r.killAndDeleteTask(ctx, o)
}

func (r *Runtime) startTask(ctx context.Context, o *object) error {
	if err := r.prepareRootfs(ctx, o); err != nil {
		return err
	}
	request := &tasks.CreateTaskRequest{ContainerID: o.id, Rootfs: o.rootfs, Terminal: o.record.TTY}
	if err := r.bindMapped(o, request); err != nil {
		return err
	}
	defer r.unbindMapped(o)
	if err := r.prepareStreams(o, request); err != nil {
		return fmt.Errorf("start container %s: %w", o.id, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start container %s: %w", o.id, err)
	}
	ctx, cancel := uninterrupted(ctx)
	defer cancel()
	o.taskLeft = true
	created, err := r.client.TaskService().Create(ctx, request)
	if err != nil {
		return &taskError{"failed to create containerd task", native(err)}
	}
	if o.relay != nil {
		r.startRelay(o.relay) // the shim has opened its ends
	}
	if err := giveOutput(created.Pid, o.record); err != nil {
		return err
	}
	// The start is stored while it happens: the two take about the same time, and a
	// running task without it is adopted all the same.
	started := status{StartedAt: r.options.Clock.Now()}
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		r.noteStart(ctx, o, started)
	}()
	_, err = r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: o.id})
	<-stored
	if err != nil {
		return &taskError{"failed to start containerd task", native(err)}
	}
	r.objects.change(o, func(f *facts) { f.running, f.pid, f.status = true, created.Pid, started })
	return nil
}

// noteStart stores what the next process, or this one after containerd's restart, wants to
// know of a container that starts. Without it the container is adopted all the same.
func (r *Runtime) noteStart(ctx context.Context, o *object, started status) {
	r.noteShim(ctx, o)
	if err := r.store(ctx, o, started); err != nil {
		r.options.Log.Error(err, "Cannot store the start of a container, it is stored with the exit", "container", o.id)
	}
}

// uninterrupted is the context of calls that must come to their end although the Pod is
// being deleted meanwhile. When the creation of a task is given up, containerd 1.6 lets
// go of the shim but not of the process that the shim has just made: it stays in the
// Pod's cgroup, and nobody knows of it.
func uninterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), taskTimeout)
}

// prepareStreams makes what a container's output goes to, and its input comes from, and
// names it to the shim. The object is busy.
func (r *Runtime) prepareStreams(o *object, request *tasks.CreateTaskRequest) error {
	path := o.record.LogPath
	if path != "" {
		if err := makeLog(path); err != nil {
			return err
		}
	}
	if o.record.interactive() {
		y, err := r.openRelay(o)
		if err != nil {
			return err
		}
		o.relay = y
		request.Stdin, request.Stdout, request.Stderr = y.pipes.stdinPath(), y.pipes.stdoutPath(), y.pipes.stderrPath()
		return nil
	}
	if path != "" {
		uri := outputURI(r.options.LoggerBinary, path)
		request.Stdout, request.Stderr = uri, uri
	}
	return nil
}

// taskError is an answer to a call that creates or starts a task.
type taskError struct {
	tried string
	err   error
}

func (e *taskError) Error() string { return e.tried + ": " + e.err.Error() }
func (e *taskError) Unwrap() error { return e.err }

// isStartError tells whether the shim or runc refused the container, rather than that
// they could not be asked.
func isStartError(err error) bool {
	var task *taskError
	if !errors.As(err, &task) {
		return false
	}
	for _, unasked := range []func(error) bool{
		errdefs.IsUnavailable, errdefs.IsCanceled, errdefs.IsDeadlineExceeded,
		errdefs.IsAlreadyExists, errdefs.IsResourceExhausted,
	} {
		if unasked(task.err) {
			return false
		}
	}
	return true
}

// recordStartError makes a container that could not start one that has exited, as
// containerd's CRI plug-in does.
func (r *Runtime) recordStartError(ctx context.Context, o *object, err error) error {
	failure := &runtime.StartError{ExitCode: startErrorCode, Message: err.Error()}
	if err := r.killAndDeleteTask(ctx, o); err != nil {
		return errors.Join(failure, err)
	}
	now := r.options.Clock.Now()
	after := status{StartedAt: now, FinishedAt: now, ExitCode: startErrorCode, Reason: reasonStartError, Message: failure.Message}
	if err := r.store(ctx, o, after); err != nil {
		return errors.Join(failure, err)
	}
	r.objects.change(o, func(f *facts) { f.status = after })
	return failure
}
