package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/api/services/tasks/v1"
	tasktypes "github.com/containerd/containerd/api/types"
	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// A Pod with a user namespace: the network namespace that it was given comes with one,
// which sandbox and containers join. The files that a container sees are mounted by this
// package with the IDs of that namespace, volumes and the layers of the image alike, so
// that neither runc nor containerd need to know how (runc before 1.2 and containerd before
// 2.0 do not). These mounts are of use only while runc makes the container, which takes
// copies of them; they are gone when StartContainer returns.

// usersFile is the user namespace of a sandbox, in its folder, while it is made.
const usersFile = "users"

func (r *Runtime) mappedDir(id string) string {
	return filepath.Join(r.options.StateDir, "mapped", id)
}

// bindUsers makes the Pod's user namespace a file that the sandbox can join. release
// removes it: the processes hold it from then on.
func (r *Runtime) bindUsers(id string, config runtime.SandboxConfig) (path string, release func(), err error) {
	if config.Users == nil {
		return "", func() {}, nil
	}
	if config.NetNSPath == "" || config.HostPID || config.HostIPC {
		return "", nil, errors.New("a Pod with user IDs of its own cannot share the machine's namespaces")
	}
	path = filepath.Join(r.sandboxDir(id), usersFile)
	if err := userns.OwnerOf(config.NetNSPath, path); err != nil {
		return "", nil, err
	}
	return path, func() {
		if err := userns.Unbind(path); err != nil {
			r.options.Log.Error(err, "Cannot release the user namespace of a sandbox, it goes with the sandbox", "sandbox", id)
		}
	}, nil
}

// applyUsers makes the processes of a spec join the user namespace at path.
func applyUsers(spec *specs.Spec, path string, users *userns.Range) {
	if users == nil {
		return
	}
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: users.HostID, Size: users.Length}}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = ids, slices.Clone(ids)
	spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
}

// checkUsers makes sure that a process has the IDs that were promised: the namespace was
// made elsewhere.
func checkUsers(pid uint32, users *userns.Range) error {
	if users == nil {
		return nil
	}
	want := []string{"0", strconv.FormatUint(uint64(users.HostID), 10), strconv.FormatUint(uint64(users.Length), 10)}
	for _, file := range []string{"uid_map", "gid_map"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, file)
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("check the user namespace of the sandbox: %w", err)
		}
		if got := strings.Fields(string(bytes.TrimSpace(data))); !slices.Equal(got, want) {
			return fmt.Errorf("the user namespace of the sandbox has the IDs %v (container, machine, length), not %v", got, want)
		}
	}
	return nil
}

// checkMapped refuses a user or group that the Pod's namespace does not have.
func checkMapped(user specs.User, config runtime.ContainerConfig) error {
	if config.Users == nil {
		return nil
	}
	for _, id := range append([]uint32{user.UID, user.GID}, user.AdditionalGids...) {
		if _, ok := config.Users.Host(id); !ok {
			return fmt.Errorf("container %s has the user or group ID %d: a Pod with hostUsers: false has the IDs 0 to %d", config.Name, id, config.Users.Length-1)
		}
	}
	return nil
}

// mapMounts makes the bind mounts of a spec those that bindMapped makes at the start. The
// shared memory belongs to the Pod's users already, and so may volumes.
func (r *Runtime) mapMounts(to *record, spec *specs.Spec, volumes []runtime.Mount) {
	theirs := map[string]bool{r.shmPath(to.SandboxID): true}
	for _, volume := range volumes {
		if volume.Mapped {
			theirs[volume.HostPath] = true
		}
	}
	for i := range spec.Mounts {
		if m := &spec.Mounts[i]; m.Type == "bind" && !theirs[m.Source] {
			to.Mapped = append(to.Mapped, m.Source)
			m.Source = r.mappedMount(to.id(), len(to.Mapped)-1)
		}
	}
}

func (r *Runtime) mappedMount(id string, i int) string {
	return filepath.Join(r.mappedDir(id), "m"+strconv.Itoa(i))
}

// bindMapped mounts what the container sees with the IDs of its user namespace, and gives
// them the container's pipes. The object is busy.
func (r *Runtime) bindMapped(o *object, request *tasks.CreateTaskRequest) error {
	users := o.record.Users
	if users == nil {
		return nil
	}
	sandbox := r.objects.get(o.record.SandboxID)
	if sandbox == nil || !r.objects.facts(sandbox).running {
		return fmt.Errorf("start container %s: its sandbox is not running", o.id)
	}
	namespace := fmt.Sprintf("/proc/%d/ns/user", r.objects.facts(sandbox).pid)
	err := r.bindAll(o, namespace, request)
	if err != nil {
		r.unbindMapped(o)
		return &taskError{"failed to create containerd task", err}
	}
	uid, gid := outputOwner(o.record)
	request.Options, err = typeurl.MarshalAnyToProto(&runcoptions.Options{IoUid: uid, IoGid: gid})
	return err
}

func (r *Runtime) bindAll(o *object, namespace string, request *tasks.CreateTaskRequest) error {
	for i, source := range o.record.Mapped {
		if err := userns.Bind(source, r.mappedMount(o.id, i), namespace); err != nil {
			return err
		}
	}
	mapped := make([]*tasktypes.Mount, 0, len(request.Rootfs))
	for _, m := range request.Rootfs {
		of, err := planRootfs(m, filepath.Join(r.mappedDir(o.id), "l"))
		if err != nil {
			return err
		}
		if of.upper == "" {
			return errors.New("the snapshotter gives an overlay without an upperdir, which cannot be written to")
		}
		if err := of.bindLayers(namespace); err != nil {
			return err
		}
		if err := giveFolder(of.upper, *o.record.Users); err != nil {
			return err
		}
		mapped = append(mapped, of.mount)
	}
	request.Rootfs = mapped
	return nil
}

func (r *Runtime) unbindMapped(o *object) {
	if err := userns.UnbindAll(r.mappedDir(o.id)); err != nil {
		r.options.Log.Error(err, "Cannot release the mounts of a container's start, they go with the container", "container", o.id)
	}
}

// rootfs says how the file system of a container or an image gets the IDs of a user namespace.
type rootfs struct {
	mount *tasktypes.Mount
	// layers are for reading only and mounted with the IDs.
	layers []struct{ from, to string }
	// upper is the folder of what the container writes; its files have the machine's IDs. It
	// is empty where nobody writes.
	upper string
}

// planRootfs changes one mount of a snapshotter; the layers are mounted at prefix and a
// number.
func planRootfs(m *tasktypes.Mount, prefix string) (rootfs, error) {
	switch m.Type {
	case "bind", "": // an image without layers
		return rootfs{mount: m, upper: m.Source}, nil
	case "overlay":
	default:
		return rootfs{}, fmt.Errorf("the snapshotter gives a mount of type %s, whose user IDs cannot be mapped; overlayfs can", m.Type)
	}
	plan := rootfs{mount: &tasktypes.Mount{Type: m.Type, Source: m.Source, Target: m.Target}}
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "upperdir":
			plan.upper = value
		case "lowerdir":
			var lower []string
			for i, from := range strings.Split(value, ":") {
				to := prefix + strconv.Itoa(i)
				plan.layers = append(plan.layers, struct{ from, to string }{from, to})
				lower = append(lower, to)
			}
			option = key + "=" + strings.Join(lower, ":")
		}
		plan.mount.Options = append(plan.mount.Options, option)
	}
	return plan, nil
}

func (of rootfs) bindLayers(namespace string) error {
	for _, layer := range of.layers {
		if err := userns.Bind(layer.from, layer.to, namespace); err != nil {
			return err
		}
	}
	return nil
}

// giveFolder makes a folder that the machine's ID owns belong to the same ID of a user
// namespace. It may be repeated.
func giveFolder(dir string, to userns.Range) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("give the container's file system to its users: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	uid, ok := mapped(owner.Uid, to)
	gid, ok2 := mapped(owner.Gid, to)
	if !ok || !ok2 {
		return fmt.Errorf("the root folder of the image belongs to %d:%d, which a Pod with user IDs of its own does not have", owner.Uid, owner.Gid)
	}
	if err := os.Lchown(dir, int(uid), int(gid)); err != nil {
		return fmt.Errorf("give the container's file system to its users: %w", err)
	}
	return nil
}

func mapped(id uint32, to userns.Range) (uint32, bool) {
	if to.Contains(id) {
		return id, true
	}
	return to.Host(id)
}

// outputOwner are the machine's IDs of the container's first process.
func outputOwner(of record) (uid, gid uint32) {
	if of.User == nil {
		return of.Users.HostID, of.Users.HostID
	}
	return of.Users.HostID + uint32(of.User.UID), of.Users.HostID + uint32(of.User.GID)
}

// giveOutput makes the pipes of a process that has been created belong to its user, so
// that it can open /dev/stdout again. runc does that only for users of the machine, and
// the shim only for pipes that it copies itself.
func giveOutput(pid uint32, of record) error {
	if of.Users == nil || of.TTY {
		return nil
	}
	uid, gid := outputOwner(of)
	for fd := 1; fd <= 2; fd++ {
		path := fmt.Sprintf("/proc/%d/fd/%d", pid, fd)
		var stat unix.Stat_t
		if err := unix.Stat(path, &stat); err != nil {
			return fmt.Errorf("give the container's output to its user: %w", err)
		}
		if stat.Mode&unix.S_IFMT != unix.S_IFIFO {
			continue // /dev/null
		}
		if err := os.Chown(path, int(uid), int(gid)); err != nil {
			return fmt.Errorf("give the container's output to its user: %w", err)
		}
	}
	return nil
}
