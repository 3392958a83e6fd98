package lifecycle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// resizeStep gives a running container other resources.
type resizeStep struct {
	Container runtime.Container
	To        runtime.Resources
}

// resizeMemory is what is remembered of a Pod's resources between syncs.
type resizeMemory struct {
	// pending says why the newest resources wait.
	pending PendingResize
	// generation is the Pod's at which the resources in progress were allocated.
	generation int64
	// started: an allocation that has not reached all containers yet.
	started bool
	// failure says why the last try failed.
	failure string
	// settings are those that the Pod's cgroup was given; nil when that is not known.
	settings *cgroups.Settings
}

// PendingResize says why the newest resources of a Pod are not given to it; the zero
// value when they are. Generation is that of the Pod that asked.
type PendingResize struct {
	Reason, Message string
	Generation      int64
}

// PendResize sets what PendingResize returns. The worker does not notice by itself.
func (m *Manager) PendResize(uid types.UID, p PendingResize) {
	m.remember(uid, func(memory *podMemory) { memory.resize.pending = p })
}

// PendingResize returns what was set last.
func (m *Manager) PendingResize(uid types.UID) PendingResize { return m.recall(uid).resize.pending }

// StartResize says that pod has been given the resources that it asks for now.
func (m *Manager) StartResize(pod *keelsonv1.Pod) {
	m.remember(pod.UID, func(p *podMemory) {
		p.resize = resizeMemory{generation: pod.Generation, started: true, settings: p.resize.settings}
	})
	m.Recorder.Record(pod, Note{Type: corev1.EventTypeNormal, Reason: eventResizeStarted, Message: ResizeMessage("Pod resize started", pod, "")})
}

// planResize compares what a running container has with what its Pod was given, and
// says whether it is kept.
func (p *plan) planResize(f facts, c *corev1.Container, running *runtime.Container) (kept bool) {
	wanted := computeResources(f.pod, c, f.capacity)
	changed := changedResources(running.Resources, wanted)
	if len(changed) == 0 {
		return true
	}
	for _, policy := range c.ResizePolicy {
		if known(running.Resources) && policy.RestartPolicy == corev1.RestartContainer && slices.Contains(changed, policy.ResourceName) {
			p.stop(f, running, fmt.Sprintf("Container %s resize requires restart", c.Name), nil)
			p.start(c, running, running.Attempt+1)
			return false
		}
	}
	p.Resize = append(p.Resize, resizeStep{*running, wanted})
	return true
}

// known tells resources from those of a container of an older version, which kept none.
func known(r runtime.Resources) bool { return r.CPUShares != 0 }

// changedResources names what differs. Large pages and the score for the OOM killer
// are fixed when a container starts.
func changedResources(has, wanted runtime.Resources) []corev1.ResourceName {
	var changed []corev1.ResourceName
	if has.CPUQuota != wanted.CPUQuota || has.CPUShares != wanted.CPUShares || asks(has, corev1.ResourceCPU, wanted) {
		changed = append(changed, corev1.ResourceCPU)
	}
	if has.MemoryLimit != wanted.MemoryLimit || asks(has, corev1.ResourceMemory, wanted) {
		changed = append(changed, corev1.ResourceMemory)
	}
	return changed
}

// asks says that the Pod asks for another amount than the container was made for.
func asks(has runtime.Resources, name corev1.ResourceName, wanted runtime.Resources) bool {
	request, limit := has.Asked.Requests[name], has.Asked.Limits[name]
	return !request.Equal(wanted.Asked.Requests[name]) || !limit.Equal(wanted.Asked.Limits[name])
}

// resizing says that something of the Pod has other resources than it was given.
func (m *Manager) resizing(pod *keelsonv1.Pod, state runtime.PodState) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			running := newestOf(state.Containers, list[i].Name)
			if running == nil || running.State != runtime.Running || !known(running.Resources) {
				continue
			}
			if len(changedResources(running.Resources, computeResources(pod, &list[i], m.Capacity))) > 0 {
				return true
			}
		}
	}
	settings := m.recall(pod.UID).resize.settings
	return settings != nil && sandboxRuns(state) && !settings.Equal(podSettings(pod, m.Capacity))
}

func sandboxRuns(state runtime.PodState) bool {
	return len(state.Sandboxes) > 0 && state.Sandboxes[0].State == runtime.Running
}

// applyResize brings the Pod's cgroup, and containers that go on, to what the Pod was
// given: room is made above before anything below grows, and taken after it has shrunk.
// Whatever was done before an error stays, and the next try goes on from there.
func (m *Manager) applyResize(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, p *plan) error {
	if !sandboxRuns(state) || p.NewSandbox {
		return nil
	}
	wanted, had := podSettings(pod, m.Capacity), m.recall(pod.UID).resize.settings
	if len(p.Resize) == 0 && had != nil && had.Equal(wanted) {
		return nil
	}
	var err error
	if had == nil && m.Cgroups.Owns(state.Sandboxes[0].CgroupParent) { // of an agent before this one
		var current cgroups.Settings
		current, err = m.Cgroups.Current(state.Sandboxes[0].CgroupParent)
		had = &current
	}
	if err == nil {
		err = m.resize(ctx, pod, state, p.Resize, had, wanted)
	}
	if ctx.Err() != nil {
		return err
	}
	failure := ""
	if err != nil {
		failure = err.Error()
	}
	if before := m.recall(pod.UID).resize.failure; failure != "" && failure != before {
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeWarning, Reason: eventResizeError, Message: ResizeMessage("Pod resize error", pod, failure)})
	}
	m.remember(pod.UID, func(p *podMemory) { p.resize.failure = failure })
	return err
}

func (m *Manager) resize(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, steps []resizeStep, had *cgroups.Settings, wanted cgroups.Settings) error {
	cgroup := state.Sandboxes[0].CgroupParent
	if err := m.checkShrinking(cgroup, steps, had, wanted); err != nil {
		return fmt.Errorf("cannot decrease memory limits: %w", err)
	}
	before := wanted
	if had != nil {
		before = had.Grow(wanted)
	}
	if err := m.setPodCgroup(pod.UID, cgroup, before); err != nil {
		return err
	}
	slices.SortStableFunc(steps, func(a, b resizeStep) int { return cmp.Compare(growth(a), growth(b)) })
	for _, step := range steps {
		if err := m.Runtime.UpdateContainer(ctx, step.Container.ID, step.To); err != nil {
			return fmt.Errorf("resizing container %s: %w", step.Container.Name, err)
		}
		klog.FromContext(ctx).V(2).Info("Resized container", "container", step.Container.Name, "containerID", step.Container.ID)
	}
	if before.Equal(wanted) {
		return nil
	}
	return m.setPodCgroup(pod.UID, cgroup, wanted)
}

// setPodCgroup changes the Pod's cgroup. One below another root, of an agent before this
// one, is left as it is.
func (m *Manager) setPodCgroup(uid types.UID, cgroup string, s cgroups.Settings) error {
	if m.Cgroups.Owns(cgroup) {
		if err := m.Cgroups.Ensure(cgroup, s); err != nil {
			return err
		}
	}
	m.remember(uid, func(p *podMemory) { p.resize.settings = &s })
	return nil
}

// growth orders updates: who gives memory up comes first.
func growth(s resizeStep) int {
	from, to := s.Container.Resources.MemoryLimit, s.To.MemoryLimit
	switch {
	case from == to:
		return 0
	case to != 0 && (from == 0 || to < from):
		return -1
	}
	return 1
}

// checkShrinking refuses limits below what is in use, which would end the processes or
// be refused half-way.
func (m *Manager) checkShrinking(cgroup string, steps []resizeStep, had *cgroups.Settings, wanted cgroups.Settings) error {
	var errs []error
	if had != nil && had.Memory != nil && *wanted.Memory != cgroups.Unlimited && (*had.Memory == cgroups.Unlimited || *wanted.Memory < *had.Memory) {
		if usage, err := m.Cgroups.Memory(cgroup); err != nil {
			errs = append(errs, err)
		} else if usage >= *wanted.Memory {
			errs = append(errs, fmt.Errorf("attempting to set pod memory limit (%d) below current usage (%d)", *wanted.Memory, usage))
		}
	}
	for _, step := range steps {
		if growth(step) >= 0 {
			continue
		}
		if usage, err := m.Cgroups.Memory(step.Container.CgroupPath); err != nil {
			errs = append(errs, err)
		} else if usage >= step.To.MemoryLimit {
			errs = append(errs, fmt.Errorf("attempting to set container %q memory limit (%d) below current usage (%d)",
				step.Container.Name, step.To.MemoryLimit, usage))
		}
	}
	return errors.Join(errs...)
}

// concludeResize says once that all containers have what the Pod was given. An agent that
// finds a resize half-way takes it for its own.
func (m *Manager) concludeResize(pod *keelsonv1.Pod, state runtime.PodState) {
	resizing, memory := m.resizing(pod, state), m.recall(pod.UID).resize
	switch {
	case resizing && !memory.started:
		m.remember(pod.UID, func(p *podMemory) { p.resize.started = true })
	case !resizing && memory.started:
		m.remember(pod.UID, func(p *podMemory) { p.resize.started, p.resize.failure = false, "" })
		m.Recorder.Record(pod, Note{Type: corev1.EventTypeNormal, Reason: eventResizeCompleted, Message: ResizeMessage("Pod resize completed", pod, "")})
	}
}

// resizeStatus is what the status says.
func (m *Manager) resizeStatus(pod *keelsonv1.Pod, state runtime.PodState) status.Resize {
	memory := m.recall(pod.UID).resize
	return status.Resize{
		PendingReason: memory.pending.Reason, PendingMessage: memory.pending.Message,
		InProgress: memory.started || m.resizing(pod, state), Error: memory.failure, Generation: memory.generation,
	}
}

// resizeSummary is the message of an event in upstream's form.
type resizeSummary struct {
	InitContainers []containerSummary `json:"initContainers,omitempty"`
	Containers     []containerSummary `json:"containers,omitempty"`
	Generation     int64              `json:"generation"`
	Error          string             `json:"error,omitempty"`
}

type containerSummary struct {
	Name      string                      `json:"name"`
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
}

// ResizeMessage is the text of an event about a resize: prefix, and what pod asks for.
func ResizeMessage(prefix string, pod *keelsonv1.Pod, failure string) string {
	summary := resizeSummary{Generation: pod.Generation, Error: failure}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		summary.InitContainers = append(summary.InitContainers, containerSummary{c.Name, c.Resources})
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		summary.Containers = append(summary.Containers, containerSummary{c.Name, c.Resources})
	}
	text, err := json.Marshal(summary)
	if err != nil {
		return prefix
	}
	return prefix + ": " + string(text)
}
