package lifecycle

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

// debugged returns pod with one more ephemeral container.
func debugged(pod *keelsonv1.Pod, name, target string) *keelsonv1.Pod {
	pod = pod.DeepCopy()
	pod.Generation++
	pod.Spec.EphemeralContainers = append(pod.Spec.EphemeralContainers, corev1.EphemeralContainer{
		TargetContainerName: target,
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name, Image: "image-" + name, Stdin: true, TTY: true,
			SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_PTRACE"}}}},
	})
	return pod
}

func (m *machine) ephemeral(pod *keelsonv1.Pod, name string) corev1.ContainerStatus {
	m.t.Helper()
	for _, c := range m.statusOf(pod).EphemeralContainerStatuses {
		if c.Name == name {
			return c
		}
	}
	m.t.Fatalf("no status of ephemeral container %s", name)
	return corev1.ContainerStatus{}
}

func (m *machine) created(name string) int {
	count := 0
	for _, call := range m.runtime.Calls() {
		if call == string(fake.CallCreateContainer)+" "+name {
			count++
		}
	}
	return count
}

func TestEphemeralContainerRunsOnce(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		pod = m.run(debugged(pod, "debugger", "a"))
		if c := m.ephemeral(pod, "debugger"); c.State.Running == nil || c.Ready || c.Started != nil {
			t.Errorf("got %+v", c)
		}
		config := m.runtime.Config(pod.UID, "debugger")
		target, _ := m.runtime.Pod(t.Context(), pod.UID)
		at := slices.IndexFunc(target.Containers, func(c runtime.Container) bool { return c.Name == "a" })
		if config.PIDTargetID != target.Containers[at].ID || !config.Stdin || !config.TTY || !slices.Equal(config.AddCapabilities, []string{"SYS_PTRACE"}) {
			t.Errorf("it was made from %+v", config)
		}

		m.exit(pod, "debugger", 3)
		m.after(time.Hour)
		pod.Status.PodStatus = m.statusOf(pod)
		m.restart()
		m.run(pod)
		if c := m.ephemeral(pod, "debugger"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 3 || c.RestartCount != 0 {
			t.Errorf("after its end: %+v", c)
		}
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning || m.container(pod, "a").RestartCount != 0 {
			t.Errorf("the Pod: %+v", s)
		}

		pod = m.run(debugged(pod, "another", ""))
		if c := m.ephemeral(pod, "another"); c.State.Running == nil || m.created("debugger") != 1 {
			t.Errorf("another: %+v, calls %v", c, m.runtime.Calls())
		}
	})
}

func TestEphemeralContainerIsAdopted(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(debugged(m.run(makePod("web", "a")), "debugger", ""))
		pod.Status.PodStatus = m.statusOf(pod)
		m.restart()
		m.run(pod)
		if c := m.ephemeral(pod, "debugger"); c.State.Running == nil || m.created("debugger") != 1 {
			t.Errorf("got %+v, calls %v", c, m.runtime.Calls())
		}
	})
}

func TestEphemeralContainerLostWhileAwayDoesNotRunAgain(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(debugged(m.run(makePod("web", "a")), "debugger", ""))
		pod.Status.PodStatus = m.statusOf(pod)
		m.stop()
		m.runtime = fake.New(m.manager.Clock) // the machine was wiped
		m.status.forgetLocal()
		m.boot(m.manager.RootDir)
		m.run(pod)
		if c := m.ephemeral(pod, "debugger"); c.State.Terminated == nil || c.State.Terminated.Reason != "ContainerStatusUnknown" || m.created("debugger") != 0 {
			t.Errorf("got %+v, calls %v", c, m.runtime.Calls())
		}
	})
}

func TestEphemeralContainerKeepsNoPodAlive(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(debugged(m.run(withPolicy(makePod("job", "a"), corev1.RestartPolicyNever)), "debugger", ""))
		m.exit(pod, "a", 0)
		if s := m.statusOf(pod); s.Phase != corev1.PodSucceeded {
			t.Errorf("phase %s", s.Phase)
		}
		if c := m.ephemeral(pod, "debugger"); c.State.Terminated == nil {
			t.Errorf("it is left: %+v", c)
		}
	})
}

func TestEphemeralContainerOfACrashLoop(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(makePod("web", "a"))
		m.exit(pod, "a", 1)
		m.exit(pod, "a", 1) // now held off
		pod = m.run(debugged(pod, "debugger", ""))
		if c := m.ephemeral(pod, "debugger"); c.State.Running == nil {
			t.Errorf("got %+v", c)
		}
	})
}

func TestEphemeralContainerOverASandboxThatDies(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(debugged(m.run(makePod("web", "a")), "debugger", ""))
		m.runtime.KillSandbox(pod.UID)
		m.settle()
		if c := m.ephemeral(pod, "debugger"); c.State.Terminated == nil || m.created("debugger") != 1 {
			t.Errorf("got %+v", c)
		}
		if c := m.container(pod, "a"); c.State.Running == nil {
			t.Errorf("the container: %+v", c)
		}
	})
}

func TestEphemeralContainerThatCannotStart(t *testing.T) {
	tests := map[string]struct {
		target string
		fail   func(*fake.Runtime)
		want   corev1.ContainerState
	}{
		"its target is not there": {
			target: "nobody",
			want:   waitingFor("CreateContainerConfigError", "unable to find target container nobody"),
		},
		"its target has ended": {
			target: "done",
			want:   waitingFor("CreateContainerError", "target container container-3 is not running"),
		},
		"its command is not there": {
			fail: func(r *fake.Runtime) {
				r.FailNext(fake.CallStartContainer, &runtime.StartError{ExitCode: 128, Message: "no such file"})
			},
			want: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 128, Reason: "StartError", Message: "no such file"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := m.run(withPolicy(makePod("web", "a", "done"), corev1.RestartPolicyOnFailure))
				m.exit(pod, "done", 0)
				if test.fail != nil {
					test.fail(m.runtime)
				}
				pod = m.run(debugged(pod, "debugger", test.target))
				got := m.ephemeral(pod, "debugger").State
				if got.Terminated != nil {
					got.Terminated = &corev1.ContainerStateTerminated{ExitCode: got.Terminated.ExitCode, Reason: got.Terminated.Reason, Message: got.Terminated.Message}
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				m.after(time.Hour)
				if test.want.Terminated != nil && m.created("debugger") != 1 {
					t.Errorf("it was made %d times", m.created("debugger"))
				}
				if test.want.Waiting != nil && strings.Count(strings.Join(m.events.all(), "\n"), "Error: ") < 2 {
					t.Errorf("nobody tried again: %v", m.events.all())
				}
			})
		})
	}
}

func waitingFor(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}
