package lifecycle

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

// withInit adds ordinary init containers.
func withInit(pod *keelsonv1.Pod, names ...string) *keelsonv1.Pod {
	for _, name := range names {
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "image-" + name})
	}
	return pod
}

// withSidecar adds a sidecar.
func withSidecar(pod *keelsonv1.Pod, name string, startup *corev1.Probe) *keelsonv1.Pod {
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{Name: name, Image: "image-" + name,
		RestartPolicy: new(corev1.ContainerRestartPolicyAlways), StartupProbe: startup})
	return pod
}

func execProbe(command string) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{command}}},
		TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3}
}

func (m *machine) init(pod *keelsonv1.Pod, name string) corev1.ContainerStatus {
	m.t.Helper()
	for _, c := range m.statusOf(pod).InitContainerStatuses {
		if c.Name == name {
			return c
		}
	}
	m.t.Fatalf("no status of init container %s", name)
	return corev1.ContainerStatus{}
}

// starts are the containers in the order in which they were started.
func (m *machine) starts() []string {
	var names []string
	for _, call := range m.runtime.Calls() {
		if name, ok := cutCall(call, fake.CallStartContainer); ok {
			names = append(names, name)
		}
	}
	return names
}

func cutCall(call string, kind fake.Call) (string, bool) {
	prefix := string(kind) + " "
	if len(call) < len(prefix) || call[:len(prefix)] != prefix {
		return "", false
	}
	return call[len(prefix):], true
}

func (m *machine) wantStarts(names ...string) {
	m.t.Helper()
	if diff := cmp.Diff(names, m.starts()); diff != "" {
		m.t.Errorf("started (-want +got):\n%s", diff)
	}
}

func (m *machine) condition(pod *keelsonv1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range m.statusOf(pod).Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestInitContainersRunInOrder(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withInit(makePod("p", "main"), "i1", "i2"))
		m.wantStarts("i1")
		if s := m.statusOf(pod); s.Phase != corev1.PodPending {
			t.Errorf("phase is %s", s.Phase)
		}
		if c := m.condition(pod, corev1.PodInitialized); c.Status != corev1.ConditionFalse ||
			c.Reason != "ContainersNotInitialized" || c.Message != "containers with incomplete status: [i1 i2]" {
			t.Errorf("Initialized is %+v", c)
		}
		if c := m.container(pod, "main"); c.State.Waiting == nil || c.State.Waiting.Reason != "PodInitializing" {
			t.Errorf("main is %+v", c.State)
		}
		m.exit(pod, "i1", 0)
		m.wantStarts("i1", "i2")
		m.restart() // in the middle of it
		m.run(pod)
		m.wantStarts("i1", "i2")
		m.exit(pod, "i2", 0)
		m.wantStarts("i1", "i2", "main")
		if c := m.condition(pod, corev1.PodInitialized); c.Status != corev1.ConditionTrue || m.statusOf(pod).Phase != corev1.PodRunning {
			t.Errorf("Initialized is %+v, phase %s", c, m.statusOf(pod).Phase)
		}
		if i := m.init(pod, "i2"); !i.Ready || i.State.Terminated == nil {
			t.Errorf("i2 is %+v", i)
		}
		m.exit(pod, "main", 1) // a restart of main does not initialize again
		m.wantStarts("i1", "i2", "main", "main")
	})
}

func TestFailingInitContainer(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withInit(makePod("p", "main"), "i1", "i2"))
		m.exit(pod, "i1", 3)
		m.wantStarts("i1", "i1")
		m.exit(pod, "i1", 3)
		if i := m.init(pod, "i1"); i.State.Waiting == nil || i.State.Waiting.Reason != "CrashLoopBackOff" || i.RestartCount != 1 {
			t.Errorf("i1 is %+v", i)
		}
		if s := m.statusOf(pod); s.Phase != corev1.PodPending {
			t.Errorf("phase is %s", s.Phase)
		}
		m.after(10 * time.Second)
		m.exit(pod, "i1", 0)
		m.wantStarts("i1", "i1", "i1", "i2")
	})
	for name, policy := range map[string]func(*keelsonv1.Pod){
		"the Pod's policy": func(p *keelsonv1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever },
		"its own policy": func(p *keelsonv1.Pod) {
			p.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyNever)
		},
	} {
		t.Run("never again by "+name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := withInit(makePod("p", "main"), "i1", "i2")
				policy(pod)
				m.run(pod)
				m.exit(pod, "i1", 3)
				s := m.statusOf(pod)
				if s.Phase != corev1.PodFailed || m.container(pod, "main").State.Waiting == nil || m.init(pod, "i2").State.Waiting == nil {
					t.Errorf("phase %s, %+v, %+v", s.Phase, s.ContainerStatuses, s.InitContainerStatuses)
				}
				m.wantStarts("i1")
			})
		})
	}
}

func TestSidecars(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.exec.exit("up", 1)
		pod := withSidecar(withInit(withSidecar(makePod("p", "main"), "s1", execProbe("up")), "i"), "s2", nil)
		m.run(pod)
		m.after(15 * time.Second)
		m.wantStarts("s1") // it has not started yet
		m.exec.exit("up", 0)
		m.after(10 * time.Second)
		m.wantStarts("s1", "i")
		m.exit(pod, "i", 0)
		m.wantStarts("s1", "i", "s2", "main")
		if c := m.condition(pod, corev1.PodReady); c.Status != corev1.ConditionTrue {
			t.Errorf("Ready is %+v", c)
		}
		m.exit(pod, "s1", 0) // it is kept
		m.after(11 * time.Second)
		m.wantStarts("s1", "i", "s2", "main", "s1")
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning || m.init(pod, "s1").RestartCount != 1 {
			t.Errorf("phase %s, %+v", s.Phase, m.init(pod, "s1"))
		}
	})
}

func TestSidecarsKeepNoPodAndStopLast(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withPolicy(withSidecar(withSidecar(makePod("p", "main"), "s1", nil), "s2", nil), corev1.RestartPolicyNever))
		m.wantStarts("s1", "s2", "main")
		m.exit(pod, "main", 0)
		if s := m.statusOf(pod); s.Phase != corev1.PodSucceeded {
			t.Errorf("phase is %s: %+v", s.Phase, s.InitContainerStatuses)
		}
		var stopped []string
		for _, call := range m.runtime.Calls() {
			if subject, ok := cutCall(call, fake.CallStopContainer); ok {
				stopped = append(stopped, subject)
			}
		}
		if diff := cmp.Diff([]string{"s2 30s", "s1 30s"}, stopped); diff != "" {
			t.Errorf("stopped (-want +got):\n%s", diff)
		}
	})
}

func TestSandboxLossInitializesAgain(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withInit(makePod("p", "main"), "i1", "i2"))
		m.exit(pod, "i1", 0)
		m.exit(pod, "i2", 0)
		m.runtime.KillSandbox(pod.UID)
		m.settle()
		m.exit(pod, "i1", 0)
		m.exit(pod, "i2", 0)
		m.wantStarts("i1", "i2", "main", "i1", "i2", "main")
		if i := m.init(pod, "i1"); i.RestartCount != 1 || m.container(pod, "main").RestartCount != 1 {
			t.Errorf("i1 %+v, main %+v", i, m.container(pod, "main"))
		}
	})
}

func TestRemovedInitContainersDoNotRunAgain(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withInit(makePod("p", "main"), "i1"))
		m.exit(pod, "i1", 0)
		state, _ := m.runtime.Pod(t.Context(), pod.UID)
		for _, c := range state.Containers {
			if c.State == runtime.Exited {
				if err := m.runtime.RemoveContainer(t.Context(), c.ID); err != nil {
					t.Fatal(err)
				}
			}
		}
		m.restart()
		m.run(pod)
		m.wantStarts("i1", "main")
		if i := m.init(pod, "i1"); i.State.Terminated == nil || i.State.Terminated.Reason != "Completed" || !i.Ready {
			t.Errorf("i1 is %+v", i)
		}
	})
}

func TestPodDeletedWhileItIsInitialized(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withInit(makePod("p", "main"), "i1", "i2"))
		m.run(deleted(pod))
		last := m.status.last(pod.UID)
		if last.Phase != corev1.PodFailed || last.InitContainerStatuses[0].State.Terminated == nil ||
			last.InitContainerStatuses[1].State.Waiting == nil || last.ContainerStatuses[0].State.Waiting == nil {
			t.Errorf("phase %s, %+v, %+v", last.Phase, last.InitContainerStatuses, last.ContainerStatuses)
		}
	})
}
