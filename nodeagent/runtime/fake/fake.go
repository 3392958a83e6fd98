// Package fake is a runtime.Runtime in memory for tests of the agent's core. It
// keeps the contract of the interface (a failed RunSandbox leaves nothing, stopping
// twice succeeds), fails on demand, and ends containers when a test says so. It
// runs nothing.
package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Call names a method of Runtime, to let it fail.
type Call string

// The calls that can fail.
const (
	CallInfo            Call = "Info"
	CallList            Call = "List"
	CallPod             Call = "Pod"
	CallRunSandbox      Call = "RunSandbox"
	CallStopSandbox     Call = "StopSandbox"
	CallRemoveSandbox   Call = "RemoveSandbox"
	CallCreateContainer Call = "CreateContainer"
	CallStartContainer  Call = "StartContainer"
	CallUpdateContainer Call = "UpdateContainer"
	CallStopContainer   Call = "StopContainer"
	CallRemoveContainer Call = "RemoveContainer"
	CallImage           Call = "Image"
	CallPull            Call = "Pull"
)

// Runtime is a runtime.Runtime in memory; use New.
type Runtime struct {
	clock clock.Clock

	mu          sync.Mutex
	nextID      int
	sandboxes   []*sandbox
	containers  []*container
	images      map[string]runtime.Image
	failures    map[Call][]error
	calls       []string
	subscribers []chan runtime.Event
	ignoreTerm  bool
}

type sandbox struct {
	runtime.Sandbox
	config runtime.SandboxConfig
}

type container struct {
	runtime.Container
	config runtime.ContainerConfig
	exited chan struct{}
}

// New returns a runtime that holds nothing and can pull any image.
func New(c clock.Clock) *Runtime {
	return &Runtime{clock: c, images: map[string]runtime.Image{}, failures: map[Call][]error{}}
}

// FailNext lets the next use of call fail with err; several failures queue up.
func (r *Runtime) FailNext(call Call, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures[call] = append(r.failures[call], err)
}

// IgnoreTerm makes containers ignore the stop signal from now on.
func (r *Runtime) IgnoreTerm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ignoreTerm = true
}

// Calls returns "Method subject" for every change made so far, in order.
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Config returns how the newest container of that name was made, nil when none was.
func (r *Runtime) Config(uid types.UID, name string) *runtime.ContainerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range slices.Backward(r.containers) {
		if c.config.UID == uid && c.Name == name {
			return new(c.config)
		}
	}
	return nil
}

// Exit ends the running container of that name as if its process had exited.
func (r *Runtime) Exit(uid types.UID, name string, code int32, reason string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if c.config.UID == uid && c.Name == name && c.State == runtime.Running {
			r.exitLocked(c, code, reason)
			return nil
		}
	}
	return fmt.Errorf("no running container %s in Pod %s", name, uid)
}

// KillSandbox ends the Pod's pause process.
func (r *Runtime) KillSandbox(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sandboxes {
		if s.config.UID == uid && s.State == runtime.Running {
			s.State, s.PID = runtime.Exited, 0
			r.publishLocked(runtime.Event{Type: runtime.SandboxExited, PodUID: uid})
		}
	}
}

// Resync tells subscribers that events may have been lost.
func (r *Runtime) Resync() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publishLocked(runtime.Event{Type: runtime.Resync})
}

func (r *Runtime) exitLocked(c *container, code int32, reason string) {
	c.State, c.ExitCode, c.Reason, c.FinishedAt = runtime.Exited, code, reason, r.clock.Now()
	close(c.exited)
	r.publishLocked(runtime.Event{Type: runtime.ContainerExited, PodUID: c.config.UID, ContainerID: c.ID})
}

func (r *Runtime) publishLocked(e runtime.Event) {
	for _, s := range r.subscribers {
		select {
		case s <- e:
		default:
			panic("runtime/fake: an event subscriber does not read")
		}
	}
}

// enterLocked records the call and takes the failure that waits for it.
func (r *Runtime) enterLocked(call Call, subject string) error {
	switch call {
	case CallInfo, CallList, CallPod, CallImage:
	default:
		r.calls = append(r.calls, string(call)+" "+subject)
	}
	queue := r.failures[call]
	if len(queue) == 0 {
		return nil
	}
	r.failures[call] = queue[1:]
	return queue[0]
}

func (r *Runtime) id(prefix string) string {
	r.nextID++
	return fmt.Sprintf("%s-%d", prefix, r.nextID)
}

// Events implements runtime.Runtime.
func (r *Runtime) Events(ctx context.Context) <-chan runtime.Event {
	ch := make(chan runtime.Event, 1024)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribers = append(r.subscribers, ch)
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.subscribers = slices.DeleteFunc(r.subscribers, func(c chan runtime.Event) bool { return c == ch })
		close(ch)
	})
	return ch
}

// Info implements runtime.Runtime.
func (r *Runtime) Info(context.Context) (runtime.Info, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallInfo, ""); err != nil {
		return runtime.Info{}, err
	}
	return runtime.Info{Name: "fake", Version: "0"}, nil
}

// List implements runtime.Runtime.
func (r *Runtime) List(context.Context) ([]runtime.PodState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallList, ""); err != nil {
		return nil, err
	}
	var uids []types.UID
	for _, s := range r.sandboxes {
		uids = append(uids, s.config.UID)
	}
	for _, c := range r.containers {
		uids = append(uids, c.config.UID)
	}
	slices.Sort(uids)
	var pods []runtime.PodState
	for _, uid := range slices.Compact(uids) {
		pods = append(pods, r.podLocked(uid))
	}
	return pods, nil
}

// Pod implements runtime.Runtime.
func (r *Runtime) Pod(_ context.Context, uid types.UID) (runtime.PodState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallPod, string(uid)); err != nil {
		return runtime.PodState{}, err
	}
	return r.podLocked(uid), nil
}

func (r *Runtime) podLocked(uid types.UID) runtime.PodState {
	state := runtime.PodState{PodIdentity: runtime.PodIdentity{UID: uid}}
	for _, s := range slices.Backward(r.sandboxes) {
		if s.config.UID == uid {
			state.PodIdentity = s.config.PodIdentity
			state.Sandboxes = append(state.Sandboxes, s.Sandbox)
		}
	}
	for _, c := range slices.Backward(r.containers) {
		if c.config.UID == uid {
			state.PodIdentity = c.config.PodIdentity
			state.Containers = append(state.Containers, c.Container)
		}
	}
	return state
}

// Image implements runtime.ImageService.
func (r *Runtime) Image(_ context.Context, ref string) (*runtime.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallImage, ref); err != nil {
		return nil, err
	}
	if image, ok := r.images[ref]; ok {
		return &image, nil
	}
	return nil, nil
}

// Pull implements runtime.ImageService.
func (r *Runtime) Pull(_ context.Context, ref string, _ *runtime.Credential) (runtime.Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallPull, ref); err != nil {
		return runtime.Image{}, err
	}
	image := runtime.Image{Ref: ref, Digest: ref + "@sha256:fake", ID: "sha256:" + ref}
	r.images[ref] = image
	return image, nil
}

// RunSandbox implements runtime.Runtime.
func (r *Runtime) RunSandbox(_ context.Context, config runtime.SandboxConfig) (runtime.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallRunSandbox, config.Name); err != nil {
		return runtime.Sandbox{}, err
	}
	s := &sandbox{config: config, Sandbox: runtime.Sandbox{
		ID: r.id("sandbox"), Attempt: config.Attempt, State: runtime.Running, CreatedAt: r.clock.Now(),
		HostNetwork: config.NetNSPath == "", PID: uint32(1000 + r.nextID), CgroupParent: config.CgroupParent,
	}}
	r.sandboxes = append(r.sandboxes, s)
	return s.Sandbox, nil
}

// StopSandbox implements runtime.Runtime.
func (r *Runtime) StopSandbox(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallStopSandbox, id); err != nil {
		return err
	}
	for _, s := range r.sandboxes {
		if s.ID == id {
			s.State, s.PID = runtime.Exited, 0
		}
	}
	return nil
}

// RemoveSandbox implements runtime.Runtime.
func (r *Runtime) RemoveSandbox(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallRemoveSandbox, id); err != nil {
		return err
	}
	for _, s := range r.sandboxes {
		if s.ID == id && s.State == runtime.Running {
			return fmt.Errorf("sandbox %s is running", id)
		}
	}
	r.sandboxes = slices.DeleteFunc(r.sandboxes, func(s *sandbox) bool { return s.ID == id })
	return nil
}

// CreateContainer implements runtime.Runtime.
func (r *Runtime) CreateContainer(_ context.Context, config runtime.ContainerConfig) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.enterLocked(CallCreateContainer, config.Name); err != nil {
		return "", err
	}
	if !slices.ContainsFunc(r.sandboxes, func(s *sandbox) bool {
		return s.ID == config.SandboxID && s.State == runtime.Running
	}) {
		return "", fmt.Errorf("sandbox %s does not run", config.SandboxID)
	}
	if id := config.PIDTargetID; id != "" {
		target, err := r.findLocked(id)
		if err != nil || target.State != runtime.Running {
			return "", fmt.Errorf("target container %s is not running", id)
		}
	}
	id := r.id("container")
	c := &container{config: config, exited: make(chan struct{}), Container: runtime.Container{
		ID: id, CgroupPath: config.CgroupParent + "/" + id, Name: config.Name, Attempt: config.Attempt, State: runtime.Created,
		SandboxID: config.SandboxID, Image: config.Image, ImageID: config.ImageRef, SpecHash: config.SpecHash,
		LogPath: config.LogPath, CreatedAt: r.clock.Now(), Resources: config.Resources,
		TerminationMessageHostPath: config.TerminationMessageHostPath,
	}}
	r.containers = append(r.containers, c)
	return c.ID, nil
}

// StartContainer implements runtime.Runtime.
func (r *Runtime) StartContainer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findLocked(id)
	if err != nil {
		return err
	}
	if err := r.enterLocked(CallStartContainer, c.Name); err != nil {
		if start, ok := errors.AsType[*runtime.StartError](err); ok {
			c.StartedAt, c.Message = time.Unix(0, 0), start.Message
			r.exitLocked(c, start.ExitCode, runtime.ReasonStartError)
		}
		return err
	}
	c.State, c.StartedAt = runtime.Running, r.clock.Now()
	return nil
}

// UpdateContainer implements runtime.Runtime.
func (r *Runtime) UpdateContainer(_ context.Context, id string, resources runtime.Resources) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findLocked(id)
	if err != nil {
		return err
	}
	if err := r.enterLocked(CallUpdateContainer, c.Name); err != nil {
		return err
	}
	if c.State != runtime.Running {
		return fmt.Errorf("container %s does not run", id)
	}
	c.Resources = resources
	return nil
}

// StopContainer implements runtime.Runtime.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	r.mu.Lock()
	c, err := r.findLocked(id)
	if err != nil {
		r.mu.Unlock()
		return nil
	}
	if err := r.enterLocked(CallStopContainer, fmt.Sprintf("%s %v", c.Name, grace)); err != nil {
		r.mu.Unlock()
		return err
	}
	if c.State != runtime.Running {
		r.mu.Unlock()
		return nil
	}
	if grace > 0 && !r.ignoreTerm {
		r.exitLocked(c, 0, "Completed")
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()

	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.exited:
		return nil
	case <-r.clock.After(grace):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.State == runtime.Running {
		r.exitLocked(c, 137, "Error")
	}
	return nil
}

// RemoveContainer implements runtime.Runtime.
func (r *Runtime) RemoveContainer(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.findLocked(id)
	if err != nil {
		return nil
	}
	if err := r.enterLocked(CallRemoveContainer, c.Name); err != nil {
		return err
	}
	if c.State == runtime.Running {
		return fmt.Errorf("container %s is running", id)
	}
	r.containers = slices.DeleteFunc(r.containers, func(c *container) bool { return c.ID == id })
	return nil
}

func (r *Runtime) findLocked(id string) (*container, error) {
	for _, c := range r.containers {
		if c.ID == id {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no container %s", id)
}

var _ runtime.Runtime = (*Runtime)(nil)
