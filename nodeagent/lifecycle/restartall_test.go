package lifecycle

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// takesAll lets the first container take the others along when it ends with 42.
func takesAll(pod *keelsonv1.Pod) *keelsonv1.Pod {
	c := &pod.Spec.Containers[0]
	c.RestartPolicy = new(corev1.ContainerRestartPolicyNever)
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action:    corev1.ContainerRestartRuleActionRestartAllContainers,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}},
	}}
	return pod
}

func TestOneContainerRestartsAll(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyNever} {
		t.Run(string(policy), func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := m.run(withSidecar(withInit(withPolicy(takesAll(makePod("p", "source", "other")), policy), "prepare"), "side", nil))
				m.exit(pod, "prepare", 0)
				m.settle()
				before := m.statusOf(pod)
				if c := m.condition(pod, corev1.AllContainersRestarting); c.Status != corev1.ConditionFalse {
					t.Errorf("before: %+v", c)
				}
				state, err := m.runtime.Pod(t.Context(), pod.UID)
				if err != nil {
					t.Fatal(err)
				}
				sandbox := state.Sandboxes[0].ID
				m.exit(pod, "source", 42)
				m.settle()
				if c := m.init(pod, "prepare"); c.State.Running == nil || c.RestartCount != 1 ||
					c.LastTerminationState.Terminated == nil || c.LastTerminationState.Terminated.Reason != status.ReasonRestartingAll {
					t.Errorf("the first init container is %+v", c)
				}
				m.exit(pod, "prepare", 0)
				m.settle()
				for _, name := range []string{"source", "other"} {
					c := m.container(pod, name)
					if c.State.Running == nil || c.RestartCount != 1 || c.LastTerminationState.Terminated == nil ||
						c.LastTerminationState.Terminated.Reason != status.ReasonRestartingAll || c.LastTerminationState.Terminated.ExitCode != 137 {
						t.Errorf("container %s is %+v", name, c)
					}
				}
				m.wantStarts("prepare", "side", "source", "other", "prepare", "side", "source", "other")
				if links, err := os.ReadDir(m.manager.ContainerLogDir); err != nil || len(links) != 4 {
					t.Errorf("%d links to logs of four containers, %v", len(links), err)
				}
				now := m.statusOf(pod)
				if now.Phase != corev1.PodRunning || now.PodIP != before.PodIP {
					t.Errorf("phase %s with %s, before %s", now.Phase, now.PodIP, before.PodIP)
				}
				for kind, want := range map[corev1.PodConditionType]corev1.ConditionStatus{
					corev1.AllContainersRestarting: corev1.ConditionFalse, corev1.PodInitialized: corev1.ConditionTrue, corev1.PodReady: corev1.ConditionTrue,
				} {
					if c := m.condition(pod, kind); c.Status != want {
						t.Errorf("condition %+v, want %s", c, want)
					}
				}
				if state, err = m.runtime.Pod(t.Context(), pod.UID); err != nil || len(state.Sandboxes) != 1 || state.Sandboxes[0].ID != sandbox {
					t.Errorf("sandbox %s became %+v, %v", sandbox, state.Sandboxes, err)
				}
			})
		})
	}
}

func TestAnotherExitCodeRestartsNobody(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(takesAll(makePod("p", "source", "other")))
		m.exit(pod, "source", 1)
		m.settle()
		if c := m.container(pod, "source"); c.State.Terminated == nil || c.State.Terminated.ExitCode != 1 {
			t.Errorf("source is %+v", c)
		}
		if c := m.container(pod, "other"); c.State.Running == nil || c.RestartCount != 0 {
			t.Errorf("other is %+v", c)
		}
	})
}

// An agent that is killed in the middle goes on where it was.
func TestInterruptedRestartOfAll(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(takesAll(makePod("p", "source", "other")))
		m.runtime.FailNext(fake.CallRemoveContainer, nil)
		m.runtime.FailNext(fake.CallRemoveContainer, errors.New("killed")) // the source stays
		m.exit(pod, "source", 42)
		m.restart()
		m.run(pod)
		m.after(crashBackoffMax)
		for _, name := range []string{"source", "other"} {
			if c := m.container(pod, name); c.State.Running == nil || c.RestartCount != 1 {
				t.Errorf("container %s is %+v", name, c)
			}
		}
	})
}

func TestPlanReset(t *testing.T) {
	pod := takesAll(makePod("p", "source", "other"))
	withInit(pod, "prepare")
	held := func(name string, attempt uint32, state runtime.State, code int32) runtime.Container {
		return runtime.Container{ID: name, Name: name, Attempt: attempt, State: state, ExitCode: code}
	}
	var p plan
	p.planReset(facts{pod: pod, state: runtime.PodState{Containers: []runtime.Container{
		held("source", 1, runtime.Exited, 42), held("other", 0, runtime.Running, 0), held("prepare", 0, runtime.Exited, 0), held("source", 0, runtime.Exited, 1),
	}}})
	var got []string
	for _, c := range p.Reset {
		got = append(got, c.Name)
	}
	// The older attempt of the source caused nothing.
	if diff := cmp.Diff([]string{"source", "other", "prepare", "source"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
