package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

// sized returns a Pod with one container of the given cpu and memory, as limits too.
func sized(cpu, memory string) *keelsonv1.Pod {
	pod := makePod("p", "a")
	pod.Generation = 1
	give(pod, cpu, memory)
	return pod
}

func give(pod *keelsonv1.Pod, cpu, memory string) {
	pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list(cpu, memory), Limits: list(cpu, memory)}
}

// resize gives a running Pod other resources, as the agent does.
func (m *machine) resize(pod *keelsonv1.Pod, change func(*keelsonv1.Pod)) *keelsonv1.Pod {
	m.t.Helper()
	next := pod.DeepCopy()
	next.Generation++
	change(next)
	m.manager.StartResize(next)
	m.pool.Update(next)
	m.settle()
	return next
}

// updates are the changes of resources since the last call, in order.
func (m *machine) updates() []string {
	var calls []string
	for _, call := range m.runtime.Calls() {
		if strings.HasPrefix(call, "UpdateContainer") || strings.HasPrefix(call, "StopContainer") {
			calls = append(calls, call)
		}
	}
	return calls
}

func (m *machine) resizeCondition(pod *keelsonv1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	s, _ := m.status.Get(pod.UID)
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// podCgroup is what the Pod's cgroup has: shares, quota and memory.
func (m *machine) podCgroup(pod *keelsonv1.Pod) string {
	m.cgroups.mu.Lock()
	defer m.cgroups.mu.Unlock()
	for path, s := range m.cgroups.settings {
		if strings.HasSuffix(path, string(pod.UID)) {
			return fmt.Sprintf("%d %d %d", *s.CPUShares, *s.CPUQuota, *s.Memory)
		}
	}
	return "none"
}

func TestResizeInPlace(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(sized("500m", "64Mi"))
		if got := m.podCgroup(pod); got != "512 50000 67108864" {
			m.t.Fatalf("the Pod begins with %s", got)
		}
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "1", "128Mi") })
		if got := m.podCgroup(pod); got != "1024 100000 134217728" {
			m.t.Errorf("the Pod has %s", got)
		}
		if diff := cmp.Diff([]string{"UpdateContainer a"}, m.updates()); diff != "" {
			m.t.Errorf("changes (-want +got):\n%s", diff)
		}
		s, _ := m.status.Get(pod.UID)
		c := s.ContainerStatuses[0]
		if diff := cmp.Diff(&pod.Spec.Containers[0].Resources, c.Resources); diff != "" || c.RestartCount != 0 {
			m.t.Errorf("%d restarts, resources in the status (-want +got):\n%s", c.RestartCount, diff)
		}
		if got := m.resizeCondition(pod, corev1.PodResizeInProgress); got != nil || s.ObservedGeneration != 2 {
			m.t.Errorf("after generation %d still %+v", s.ObservedGeneration, got)
		}
		for _, want := range []string{
			`Normal  ResizeStarted: Pod resize started: {"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"128Mi"},"requests":{"cpu":"1","memory":"128Mi"}}}],"generation":2}`,
			`Normal  ResizeCompleted: Pod resize completed: {"containers":[{"name":"a","resources":{"limits":{"cpu":"1","memory":"128Mi"},"requests":{"cpu":"1","memory":"128Mi"}}}],"generation":2}`,
		} {
			if !slices.Contains(m.events.all(), want) {
				m.t.Errorf("no event %q in %q", want, m.events.all())
			}
		}
		m.restart()
		m.run(pod)
		if got := m.updates(); len(got) != 1 {
			m.t.Errorf("another agent changes it again: %q", got)
		}
	})
}

func TestResizeThatRestarts(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := sized("500m", "64Mi")
		pod.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
		m.run(pod)
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "1", "64Mi") })
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "1", "32Mi") })
		if diff := cmp.Diff([]string{"UpdateContainer a", "StopContainer a 30s"}, m.updates()); diff != "" {
			m.t.Errorf("changes (-want +got):\n%s", diff)
		}
		s, _ := m.status.Get(pod.UID)
		if c := s.ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil || c.Resources.Limits.Memory().String() != "32Mi" {
			m.t.Errorf("the container is %+v", c)
		}
		if got := m.podCgroup(pod); got != "1024 100000 33554432" {
			m.t.Errorf("the Pod has %s", got)
		}
		if !slices.Contains(m.events.all(), "Normal a Killing: Container a resize requires restart") {
			m.t.Errorf("events %q", m.events.all())
		}
	})
}

func TestResizeBelowWhatIsInUse(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(sized("500m", "64Mi"))
		state, err := m.runtime.Pod(m.t.Context(), pod.UID)
		if err != nil {
			m.t.Fatal(err)
		}
		cgroup := state.Containers[0].CgroupPath
		m.cgroups.mu.Lock()
		m.cgroups.memory[cgroup] = 40 << 20
		m.cgroups.mu.Unlock()
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "500m", "32Mi") })
		const want = `cannot decrease memory limits: attempting to set container "a" memory limit (33554432) below current usage (41943040)`
		if c := m.resizeCondition(pod, corev1.PodResizeInProgress); c == nil || c.Reason != corev1.PodReasonError || c.Message != want || c.ObservedGeneration != 2 {
			m.t.Errorf("condition %+v", c)
		}
		s, _ := m.status.Get(pod.UID)
		if c := s.ContainerStatuses[0]; c.Resources.Limits.Memory().String() != "64Mi" || c.AllocatedResources.Memory().String() != "32Mi" {
			m.t.Errorf("it shows %v of %v", c.Resources.Limits.Memory(), c.AllocatedResources.Memory())
		}
		if got := m.podCgroup(pod); got != "512 50000 67108864" {
			m.t.Errorf("the Pod has %s although nothing was done", got)
		}
		m.cgroups.mu.Lock()
		m.cgroups.memory[cgroup] = 10 << 20
		m.cgroups.mu.Unlock()
		m.after(2 * time.Minute)
		if c := m.resizeCondition(pod, corev1.PodResizeInProgress); c != nil {
			m.t.Errorf("once there is room: %+v", c)
		}
		if got := m.podCgroup(pod); got != "512 50000 33554432" {
			m.t.Errorf("the Pod has %s", got)
		}
	})
}

func TestResizeIsTriedAgain(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(sized("500m", "64Mi"))
		m.runtime.FailNext(fake.CallUpdateContainer, errors.New("boom"))
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "1", "128Mi") })
		if c := m.resizeCondition(pod, corev1.PodResizeInProgress); c == nil || c.Message != "resizing container a: boom" {
			m.t.Errorf("condition %+v", c)
		}
		if got := m.podCgroup(pod); got != "1024 100000 134217728" {
			m.t.Errorf("there is no room above: %s", got)
		}
		m.restart() // the next agent finds it half-way
		m.run(pod)
		m.after(5 * time.Second)
		if c := m.resizeCondition(pod, corev1.PodResizeInProgress); c != nil {
			m.t.Errorf("condition %+v", c)
		}
		if got := m.updates(); len(got) != 2 {
			m.t.Errorf("changes %q", got)
		}
	})
}

// TestNextAgentShrinks has the kernel refuse a quota of a Pod below that of a container,
// as cgroup v1 does, and an agent that does not remember what the Pod has.
func TestNextAgentShrinks(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(sized("1", "128Mi"))
		m.cgroups.mu.Lock()
		m.cgroups.check = func(s cgroups.Settings) error {
			state, err := m.runtime.Pod(t.Context(), pod.UID)
			for _, c := range state.Containers {
				if c.State == runtime.Running && c.Resources.CPUQuota > *s.CPUQuota {
					return errors.New("invalid argument")
				}
			}
			return err
		}
		m.cgroups.mu.Unlock()
		m.restart()
		pod = m.resize(pod, func(p *keelsonv1.Pod) { give(p, "500m", "64Mi") })
		if c := m.resizeCondition(pod, corev1.PodResizeInProgress); c != nil {
			m.t.Errorf("condition %+v", c)
		}
		if got := m.podCgroup(pod); got != "512 50000 67108864" {
			m.t.Errorf("the Pod has %s", got)
		}
	})
}

func TestResizeThatWaits(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(sized("500m", "64Mi"))
		pending := PendingResize{Reason: corev1.PodReasonDeferred, Message: "no room", Generation: 2}
		m.manager.PendResize(pod.UID, pending)
		waiting := pod.DeepCopy() // with what it has: the agent replaces what is asked for
		waiting.Generation = 2
		m.run(waiting)
		if c := m.resizeCondition(pod, corev1.PodResizePending); c == nil || c.Reason != corev1.PodReasonDeferred || c.Message != "no room" || c.ObservedGeneration != 2 {
			m.t.Errorf("condition %+v", c)
		}
		if m.manager.PendingResize(pod.UID) != pending || len(m.updates()) > 0 {
			m.t.Errorf("pending %+v, changes %q", m.manager.PendingResize(pod.UID), m.updates())
		}
		m.manager.PendResize(pod.UID, PendingResize{})
		m.pool.Wake(pod.UID)
		m.settle()
		if c := m.resizeCondition(pod, corev1.PodResizePending); c != nil {
			m.t.Errorf("after it was taken back: %+v", c)
		}
	})
}

func TestWhoGivesMemoryUpComesFirst(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("p", "a", "b", "c")
		memory := func(p *keelsonv1.Pod, sizes ...string) {
			for i, size := range sizes {
				p.Spec.Containers[i].Resources = corev1.ResourceRequirements{Requests: list("100m", size), Limits: list("100m", size)}
			}
		}
		memory(pod, "64Mi", "128Mi", "64Mi")
		m.run(pod)
		m.resize(pod, func(p *keelsonv1.Pod) { memory(p, "128Mi", "64Mi", "128Mi") })
		if diff := cmp.Diff([]string{"UpdateContainer b", "UpdateContainer a", "UpdateContainer c"}, m.updates()); diff != "" {
			m.t.Errorf("changes (-want +got):\n%s", diff)
		}
	})
}

func TestResizeOfTheWholePod(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("p", "a")
		pod.Spec.Resources = &corev1.ResourceRequirements{Requests: list("1", "64Mi"), Limits: list("2", "128Mi")}
		m.run(pod)
		pod = m.resize(pod, func(p *keelsonv1.Pod) { p.Spec.Resources.Limits = list("3", "256Mi") })
		if got := m.podCgroup(pod); got != "1024 300000 268435456" {
			m.t.Errorf("the Pod has %s", got)
		}
		state, err := m.runtime.Pod(m.t.Context(), pod.UID)
		if err != nil {
			m.t.Fatal(err)
		}
		if r := state.Containers[0].Resources; r.MemoryLimit != 256<<20 || r.CPUQuota != 300000 {
			m.t.Errorf("its container has %+v", r)
		}
		s, _ := m.status.Get(pod.UID)
		if s.Resources.Limits.Memory().String() != "256Mi" || s.AllocatedResources.Cpu().String() != "1" {
			m.t.Errorf("the status says %+v of %+v", s.Resources, s.AllocatedResources)
		}
	})
}
