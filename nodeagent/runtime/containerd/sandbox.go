package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/selinux/go-selinux"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/namespaces"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

const (
	cleanUpTimeout = 10 * time.Second
	// taskTimeout bounds what may not be interrupted; the kubelet's is the same.
	taskTimeout = 2 * time.Minute
)

// makePauseRoot makes the root folder of pause containers. It holds only mount points:
// the program itself is bind-mounted, so that the folder may be mounted noexec, as /run
// often is.
func makePauseRoot(stateDir string) (string, error) {
	root := filepath.Join(stateDir, "pause")
	for _, dir := range []string{"proc", "dev", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", fmt.Errorf("make the root of pause containers: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "pause"), nil, 0o755); err != nil {
		return "", fmt.Errorf("make the root of pause containers: %w", err)
	}
	return root, nil
}

func (r *Runtime) sandboxDir(id string) string {
	return filepath.Join(r.options.StateDir, "sandboxes", id)
}

func (r *Runtime) shmPath(id string) string { return filepath.Join(r.sandboxDir(id), "shm") }

// RunSandbox implements runtime.Runtime.
func (r *Runtime) RunSandbox(ctx context.Context, config runtime.SandboxConfig) (runtime.Sandbox, error) {
	if err := r.ensureSynced(ctx); err != nil {
		return runtime.Sandbox{}, err
	}
	record := record{
		Kind: kindSandbox, PodIdentity: config.PodIdentity, Attempt: config.Attempt,
		CreatedAt: r.options.Clock.Now(), HostNetwork: config.NetNSPath == "", Users: config.Users,
	}
	record.CgroupPath = cgroupPath(config.CgroupParent, record.id())
	if err := r.clearRemains(ctx, record.id()); err != nil {
		return runtime.Sandbox{}, err
	}
	given, _, err := newLabels(config.SELinux, "")
	if err != nil {
		return runtime.Sandbox{}, err
	}
	record.ProcessLabel, record.MountLabel = given.process, given.mount
	start := r.startSandbox
	if !needsProcess(config) {
		record.Held, start = heldBy(config, r.sandboxDir(record.id())), r.holdSandbox
	}
	o := r.objects.put(record, facts{})
	o.busy.Lock()
	defer o.busy.Unlock()
	if err := start(ctx, o, config); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		return runtime.Sandbox{}, errors.Join(err, r.discard(clean, o))
	}
	return sandboxState(o.id, record, r.objects.facts(o)), nil
}

func (r *Runtime) startSandbox(ctx context.Context, o *object, config runtime.SandboxConfig) error {
	if err := mountShm(r.shmPath(o.id), config.Users, o.record.MountLabel); err != nil {
		return err
	}
	users, release, err := r.bindUsers(o.id, config)
	if err != nil {
		return err
	}
	defer release()
	spec := sandboxSpec(config, o.id, pauseFiles{root: r.pauseRoot, program: r.options.PauseBinary}, r.machine)
	applyUsers(spec, users, config.Users)
	applyLabels(spec, labels{o.record.ProcessLabel, o.record.MountLabel}, false)
	if err := r.createObject(ctx, o, spec, containers.Container{}); err != nil {
		return err
	}
	ctx, cancel := uninterrupted(ctx)
	defer cancel()
	o.taskLeft = true
	created, err := r.client.TaskService().Create(ctx, &tasks.CreateTaskRequest{ContainerID: o.id})
	if err != nil {
		return r.explain("create the sandbox's task", err)
	}
	if err := checkUsers(created.Pid, config.Users); err != nil {
		return err
	}
	if _, err := r.client.TaskService().Start(ctx, &tasks.StartRequest{ContainerID: o.id}); err != nil {
		return r.explain("start the sandbox", err)
	}
	r.objects.change(o, func(f *facts) { f.running, f.pid = true, created.Pid })
	return nil
}

// holdSandbox makes a sandbox without a process. The object in containerd is what the next
// process finds it by.
func (r *Runtime) holdSandbox(ctx context.Context, o *object, config runtime.SandboxConfig) error {
	var group errgroup.Group
	group.Go(func() error {
		return r.createObject(ctx, o, &specs.Spec{Version: specs.Version, Hostname: config.Hostname}, containers.Container{})
	})
	group.Go(func() error {
		if err := mountShm(r.shmPath(o.id), nil, o.record.MountLabel); err != nil {
			return err
		}
		return o.record.Held.hold(config.Hostname, sandboxSysctls(config))
	})
	if err := group.Wait(); err != nil {
		return err
	}
	r.objects.change(o, func(f *facts) { f.running = true })
	return nil
}

// createObject stores a container object in containerd.
func (r *Runtime) createObject(ctx context.Context, o *object, spec any, c containers.Container) error {
	encoded, err := encodeExtension(o.record)
	if err != nil {
		return err
	}
	if c.Spec, err = typeurl.MarshalAny(spec); err != nil {
		return fmt.Errorf("encode the OCI spec of %s: %w", o.id, err)
	}
	c.ID, c.Labels, c.Runtime.Name = o.id, o.record.labels(), runcRuntime
	c.Extensions = map[string]typeurl.Any{extensionRecord: encoded}
	if _, err := r.client.ContainerService().Create(ctx, c); err != nil {
		return r.explain("create container "+o.id, err)
	}
	// A list that was read before this line lacks it, and is not to be believed.
	r.objects.change(o, func(*facts) {})
	return nil
}

// clearRemains removes what an earlier creation of the same object left when it was
// interrupted. What is or was running is refused.
func (r *Runtime) clearRemains(ctx context.Context, id string) error {
	o := r.objects.get(id)
	if o == nil {
		return nil
	}
	o.busy.Lock()
	defer o.busy.Unlock()
	f := r.objects.facts(o)
	if f.running || !f.status.StartedAt.IsZero() {
		return fmt.Errorf("%s of Pod %s/%s, attempt %d, exists already: %w", o.record.Kind, o.record.Namespace, o.record.Name, o.record.Attempt, errdefs.ErrAlreadyExists)
	}
	return r.discard(ctx, o)
}

// RemoveSandbox implements runtime.Runtime.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error { return r.remove(ctx, id) }

// RemoveContainer implements runtime.Runtime.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error { return r.remove(ctx, id) }

func (r *Runtime) remove(ctx context.Context, id string) error {
	if err := r.ensureSynced(ctx); err != nil {
		return err
	}
	o := r.objects.get(id)
	if o == nil {
		return nil
	}
	o.busy.Lock()
	defer o.busy.Unlock()
	if r.objects.facts(o).running {
		return fmt.Errorf("remove %s %s: it is running; stop it first", o.record.Kind, id)
	}
	return r.discard(ctx, o)
}

// discard removes an object and all it held. The object is busy and its process, if
// any is left, is of no use.
func (r *Runtime) discard(ctx context.Context, o *object) error {
	if o.taskLeft {
		if err := r.killAndDeleteTask(ctx, o); err != nil {
			return err
		}
	}
	if err := r.releaseShim(ctx, o); err != nil {
		return err
	}
	r.killLeftovers(o)
	if err := r.client.ContainerService().Delete(ctx, o.id); err != nil && !errdefs.IsNotFound(err) {
		return r.explain("delete container "+o.id, err)
	}
	if o.record.Kind == kindContainer {
		err := r.client.SnapshotService(r.options.Snapshotter).Remove(ctx, o.id)
		if err = native(err); err != nil && !errdefs.IsNotFound(err) {
			return r.explain("remove the file system of container "+o.id, err)
		}
	}
	if err := r.removeFiles(o); err != nil {
		return err
	}
	selinux.ReleaseLabel(o.record.ProcessLabel)
	r.objects.remove(o)
	return nil
}

func (r *Runtime) removeFiles(o *object) error {
	if err := userns.UnbindAll(r.mappedDir(o.id)); err != nil {
		return err
	}
	if o.record.interactive() {
		return r.streamsOf(o).remove()
	}
	if o.record.Kind != kindSandbox {
		return nil // its log belongs to the agent
	}
	return removeDir(r.sandboxDir(o.id))
}

// mountShm mounts the shared memory of a Pod's containers.
func mountShm(path string, users *userns.Range, mountLabel string) error {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return fmt.Errorf("create the Pod's shared memory: %w", err)
	}
	options := "mode=1777,size=65536k"
	if users != nil { // their root owns it
		options += fmt.Sprintf(",uid=%d,gid=%d", users.HostID, users.HostID)
	}
	if mountLabel != "" {
		options += "," + contextOption(mountLabel)
	}
	if err := unix.Mount("shm", path, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount the Pod's shared memory at %s: %w", path, err)
	}
	return nil
}

// removeDir removes the folder of a sandbox, which may hold a mounted shm and namespaces.
func removeDir(dir string) error {
	for _, file := range []string{usersFile, ipcFile, utsFile} {
		if err := namespaces.Unbind(filepath.Join(dir, file)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dir, "shm")
	err := unix.Unmount(shm, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unmount %s: %w", shm, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove files of a sandbox: %w", err)
	}
	return nil
}
