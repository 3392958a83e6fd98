package containerd

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"sync"

	tasktypes "github.com/containerd/containerd/api/types"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// object is one sandbox or container. Facts change under the table's lock only.
type object struct {
	id     string
	record record

	// busy serialises start, exit and removal of this object. It is held over IO.
	busy sync.Mutex
	// relay moves the streams of an interactive container that runs; nil else. It,
	// rootfs, taskLeft and shimKept are guarded by busy.
	relay  *relay
	rootfs []*tasktypes.Mount
	// taskLeft says that containerd may still hold a task that has ended.
	taskLeft bool
	// shimKept says that containerd may hold an entry that keeps the shim, see keepShim.
	shimKept bool

	facts facts
	// exited is closed when the object has ended and that is stored.
	exited chan struct{}
}

// facts are what may change about an object.
type facts struct {
	status  status
	running bool
	pid     uint32
	// changes counts the changes made by this process, to recognise stale reads.
	changes uint64
}

// table is this process's memory of what containerd holds. It is filled by resync and
// kept by the Runtime's own writes and containerd's events.
type table struct {
	mu      sync.Mutex
	objects map[string]*object
	pods    map[types.UID]map[string]*object
}

func newTable() *table {
	return &table{objects: map[string]*object{}, pods: map[types.UID]map[string]*object{}}
}

// put adds an object unless it is there, and returns the one that is.
func (t *table) put(r record, f facts) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := r.id()
	if known, ok := t.objects[id]; ok {
		return known
	}
	added := &object{id: id, record: r, facts: f, exited: make(chan struct{})}
	if f.status.finished() {
		close(added.exited)
	}
	t.objects[id] = added
	if t.pods[r.UID] == nil {
		t.pods[r.UID] = map[string]*object{}
	}
	t.pods[r.UID][id] = added
	return added
}

func (t *table) get(id string) *object {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.objects[id]
}

func (t *table) remove(o *object) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.objects[o.id] != o {
		return
	}
	delete(t.objects, o.id)
	pod := t.pods[o.record.UID]
	delete(pod, o.id)
	if len(pod) == 0 {
		delete(t.pods, o.record.UID)
	}
	if !closed(o.exited) {
		close(o.exited)
	}
}

// change applies f to the facts and wakes waiters when the object has ended.
func (t *table) change(o *object, f func(*facts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f(&o.facts)
	o.facts.changes++
	if o.facts.status.finished() && !closed(o.exited) {
		close(o.exited)
	}
}

func (t *table) facts(o *object) facts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return o.facts
}

// changes returns the change count of every object.
func (t *table) changes() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := make(map[string]uint64, len(t.objects))
	for id, o := range t.objects {
		counts[id] = o.facts.changes
	}
	return counts
}

func (t *table) pod(uid types.UID) runtime.PodState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return podState(t.pods[uid])
}

// usersOf names the user namespace of the Pod's running sandbox; it is empty when the Pod has
// the machine's.
func (t *table) usersOf(uid types.UID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.runningSandbox(uid)
	if o == nil || o.record.Users == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/ns/user", o.facts.pid)
}

// mountLabelOf is the SELinux label of what the Pod's containers see.
func (t *table) mountLabelOf(uid types.UID) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.runningSandbox(uid); o != nil {
		return o.record.MountLabel
	}
	return ""
}

// runningSandbox returns nil when the Pod has none. The table is locked.
func (t *table) runningSandbox(uid types.UID) *object {
	for _, o := range t.pods[uid] {
		if o.record.Kind == kindSandbox && o.facts.running {
			return o
		}
	}
	return nil
}

func (t *table) all() []runtime.PodState {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := make([]runtime.PodState, 0, len(t.pods))
	for _, objects := range t.pods {
		states = append(states, podState(objects))
	}
	slices.SortFunc(states, func(a, b runtime.PodState) int { return cmp.Compare(a.UID, b.UID) })
	return states
}

func podState(objects map[string]*object) runtime.PodState {
	var state runtime.PodState
	for _, o := range objects {
		state.PodIdentity = o.record.PodIdentity
		if o.record.Kind == kindSandbox {
			state.Sandboxes = append(state.Sandboxes, sandboxState(o.id, o.record, o.facts))
		} else {
			state.Containers = append(state.Containers, containerState(o.id, o.record, o.facts))
		}
	}
	slices.SortFunc(state.Sandboxes, func(a, b runtime.Sandbox) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.Attempt, a.Attempt))
	})
	slices.SortFunc(state.Containers, func(a, b runtime.Container) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.Name, b.Name), cmp.Compare(b.Attempt, a.Attempt))
	})
	return state
}

func sandboxState(id string, r record, f facts) runtime.Sandbox {
	sandbox := runtime.Sandbox{
		ID: id, Attempt: r.Attempt, State: runtime.Exited,
		CreatedAt: r.CreatedAt, HostNetwork: r.HostNetwork, CgroupParent: path.Dir(r.CgroupPath),
	}
	if r.Held != nil {
		sandbox.NetNSPath = r.Held.Net
	}
	if f.running {
		sandbox.State, sandbox.PID = runtime.Running, f.pid
	}
	return sandbox
}

func containerState(id string, r record, f facts) runtime.Container {
	var resources runtime.Resources
	if known := cmp.Or(f.status.Resources, r.Resources); known != nil {
		resources = *known
	}
	return runtime.Container{
		CgroupPath: r.CgroupPath, Resources: resources, User: r.User,
		ID: id, Name: r.Container, Attempt: r.Attempt, SandboxID: r.SandboxID,
		State: stateOf(f), Image: r.Image, ImageID: r.ImageID, SpecHash: r.SpecHash,
		LogPath: r.LogPath, CreatedAt: r.CreatedAt,
		StartedAt: f.status.StartedAt, FinishedAt: f.status.FinishedAt,
		ExitCode: f.status.ExitCode, Reason: f.status.Reason, Message: f.status.Message,
		TerminationMessageHostPath: r.TerminationMessageHostPath,
	}
}

func stateOf(f facts) runtime.State {
	switch {
	case f.status.finished():
		return runtime.Exited
	case f.running:
		return runtime.Running
	case f.status.StartedAt.IsZero():
		return runtime.Created
	default: // until resync has settled what became of it
		return runtime.Unknown
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
