package lifecycle

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/fake"
)

func withProbes(pod *keelsonv1.Pod, startup, liveness, readiness *corev1.Probe) *keelsonv1.Pod {
	c := &pod.Spec.Containers[0]
	c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = startup, liveness, readiness
	return pod
}

func (m *machine) stops() []string {
	var stopped []string
	for _, call := range m.runtime.Calls() {
		if subject, ok := cutCall(call, fake.CallStopContainer); ok {
			stopped = append(stopped, subject)
		}
	}
	return stopped
}

func (m *machine) wantEvent(event string, count int) {
	m.t.Helper()
	if n := m.events.count(event); n != count {
		m.t.Errorf("event %q was recorded %d times, want %d; all:\n%s", event, n, count, strings.Join(m.events.all(), "\n"))
	}
}

func TestLivenessFailureRestarts(t *testing.T) {
	onMachine(t, func(m *machine) {
		alive := execProbe("alive")
		alive.TerminationGracePeriodSeconds = new(int64(7))
		m.exec.on("alive", func(_ context.Context, s runtime.Streams) error {
			_, _ = io.WriteString(s.Stdout, "no pulse")
			return &runtime.ExitError{Code: 1}
		})
		pod := m.run(withProbes(makePod("p", "a"), nil, alive, nil))
		m.after(19 * time.Second)
		if c := m.container(pod, "a"); c.RestartCount != 0 || !c.Ready {
			t.Fatalf("before the third failure: %+v", c)
		}
		m.after(time.Second) // 0 s, 10 s, 20 s
		if c := m.container(pod, "a"); c.RestartCount != 1 || c.State.Running == nil {
			t.Fatalf("after the third failure: %+v", c)
		}
		m.wantEvent("Warning a Unhealthy: Liveness probe failed: no pulse", 4) // the new attempt was asked once
		m.wantEvent("Normal a Killing: Container a failed liveness probe, will be restarted", 1)
		if !slices.Equal(m.stops(), []string{"a 7s"}) {
			t.Errorf("stopped %v", m.stops())
		}
	})
}

func TestLivenessFailuresBackOffLikeCrashes(t *testing.T) {
	onMachine(t, func(m *machine) {
		alive := execProbe("alive")
		alive.PeriodSeconds, alive.FailureThreshold = 1, 1
		m.exec.exit("alive", 1)
		pod := m.run(withProbes(makePod("p", "a"), nil, alive, nil))
		m.after(3 * time.Second)
		c := m.container(pod, "a")
		if c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" {
			t.Errorf("restarted without a pause: %+v", c)
		}
	})
}

func TestFailedProbesWithoutRestart(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*keelsonv1.Pod)
		event  string
	}{
		"liveness": {func(p *keelsonv1.Pod) { withProbes(p, nil, execProbe("x"), nil) }, "Normal a Killing: Container a failed liveness probe"},
		"startup":  {func(p *keelsonv1.Pod) { withProbes(p, execProbe("x"), nil, nil) }, "Normal a Killing: Container a failed startup probe"},
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				m.exec.exit("x", 1)
				pod := withPolicy(makePod("p", "a", "b"), corev1.RestartPolicyNever)
				tt.change(pod)
				m.run(pod)
				m.after(21 * time.Second)
				m.wantEvent(tt.event, 1)
				m.wantStarts("a", "b")
				if s := m.statusOf(pod); s.Phase != corev1.PodRunning || s.ContainerStatuses[0].State.Terminated == nil {
					t.Errorf("%+v", s.ContainerStatuses)
				}
			})
		})
	}
}

func TestStartupProbeComesFirst(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.exec.exit("up", 1)
		pod := m.run(withProbes(makePod("p", "a"), execProbe("up"), execProbe("alive"), execProbe("ready")))
		m.after(15 * time.Second)
		if c := m.container(pod, "a"); *c.Started || c.Ready || m.exec.count("alive")+m.exec.count("ready") != 0 {
			t.Errorf("%+v, alive asked %d times, ready %d", c, m.exec.count("alive"), m.exec.count("ready"))
		}
		m.exec.exit("up", 0)
		m.after(5 * time.Second)
		if c := m.container(pod, "a"); !*c.Started || !c.Ready || m.exec.count("alive") != 1 {
			t.Errorf("%+v, alive asked %d times", c, m.exec.count("alive"))
		}
		asked := m.exec.count("up")
		m.after(time.Minute)
		if m.exec.count("up") != asked {
			t.Error("the startup probe went on after the start")
		}
	})
}

func TestReadinessChangesNothingElse(t *testing.T) {
	onMachine(t, func(m *machine) {
		ready := execProbe("ready")
		ready.InitialDelaySeconds, ready.SuccessThreshold, ready.FailureThreshold = 5, 2, 2
		pod := m.run(withProbes(makePod("p", "a"), nil, nil, ready))
		for _, step := range []struct {
			after time.Duration
			code  int
			ready bool
		}{
			{4 * time.Second, 0, false}, {2 * time.Second, 0, false}, {10 * time.Second, 0, true},
			{10 * time.Second, 1, true}, {10 * time.Second, 1, false}, {20 * time.Second, 0, true},
		} {
			m.exec.exit("ready", step.code)
			m.after(step.after)
			c, condition := m.container(pod, "a"), m.condition(pod, corev1.PodReady)
			if c.Ready != step.ready || (condition.Status == corev1.ConditionTrue) != step.ready {
				t.Fatalf("%+v: %+v, %+v", step, c, condition)
			}
		}
		m.wantStarts("a")
	})
}

func TestRestartOfTheAgentKeepsHealth(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := m.run(withProbes(makePod("p", "a"), execProbe("up"), nil, execProbe("ready")))
		m.after(time.Second)
		up := m.exec.count("up")
		pod.Status.PodStatus = m.statusOf(pod)
		m.restart()
		m.exec.exit("ready", 1)
		m.run(pod)
		m.after(9 * time.Second)
		if c := m.container(pod, "a"); !c.Ready || !*c.Started || m.exec.count("up") != up {
			t.Errorf("after the restart: %+v, asked whether it started %d times more", c, m.exec.count("up")-up)
		}
		m.after(30 * time.Second)
		if c := m.container(pod, "a"); c.Ready {
			t.Errorf("after the probe failed: %+v", c)
		}
	})
}

func TestReadinessShowsWhileThePodStops(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.runtime.IgnoreTerm()
		ready := execProbe("ready")
		ready.FailureThreshold = 1
		pod := m.run(withProbes(makePod("p", "a"), nil, execProbe("alive"), ready))
		m.run(deleted(pod))
		alive := m.exec.count("alive")
		m.exec.exit("ready", 1)
		m.after(29 * time.Second)
		if c := m.container(pod, "a"); c.State.Running == nil || c.Ready {
			t.Errorf("%+v", c)
		}
		if m.exec.count("alive") != alive {
			t.Error("liveness is probed while the Pod stops")
		}
		m.after(time.Second)
		if !m.status.hasReleased(pod.UID) {
			t.Error("the Pod has not left")
		}
	})
}

func TestErrorsOfProbesSayNothingAboutTheContainer(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.exec.on("alive", func(context.Context, runtime.Streams) error { return errors.New("no shell") })
		alive := execProbe("alive")
		alive.FailureThreshold = 1
		pod := m.run(withProbes(makePod("p", "a"), nil, alive, nil))
		m.after(time.Minute)
		if c := m.container(pod, "a"); c.RestartCount != 0 {
			t.Errorf("%+v", c)
		}
		m.wantEvent("Warning a Unhealthy: Liveness probe errored and resulted in unknown state: no shell", 7)
		if n := m.exec.count("alive"); n != 21 {
			t.Errorf("tried %d times, want 3 in each of 7 periods", n)
		}
	})
}

func withHooks(pod *keelsonv1.Pod, postStart, preStop *corev1.LifecycleHandler) *keelsonv1.Pod {
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: postStart, PreStop: preStop}
	return pod
}

func execHook(command string) *corev1.LifecycleHandler {
	return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{command}}}
}

func TestPostStartHook(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.exec.on("hook", func(ctx context.Context, _ runtime.Streams) error {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
			}
			return ctx.Err()
		})
		pod := m.run(withHooks(makePod("p", "a", "b"), execHook("hook"), nil))
		m.after(4 * time.Second)
		if c := m.container(pod, "a"); c.State.Running != nil {
			t.Errorf("it counts as running before its hook is over: %+v", c.State)
		}
		m.wantStarts("a") // the next container waits for the hook
		m.after(time.Second)
		m.wantStarts("a", "b")
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning {
			t.Errorf("phase is %s", s.Phase)
		}
	})
}

func TestFailingPostStartHook(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.exec.exit("hook", 1)
		pod := m.run(withHooks(makePod("p", "a"), execHook("hook"), nil))
		m.wantEvent("Warning a FailedPostStartHook: PostStartHook failed", 2)
		m.wantEvent("Normal a Killing: FailedPostStartHook", 2)
		if c := m.container(pod, "a"); c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" || c.RestartCount != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestPreStopHookUsesUpTheGrace(t *testing.T) {
	sleep := func(seconds int64) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
	}
	for name, tt := range map[string]struct {
		hook *corev1.LifecycleHandler
		want string
	}{
		"part of it":                    {sleep(12), "a 18s"},
		"all of it":                     {sleep(29), "a 2s"},
		"more than it":                  {sleep(60), "a 2s"},
		"nothing, since it is over":     {execHook("hook"), "a 30s"},
		"nothing, since it has failed":  {execHook("fails"), "a 30s"},
		"nothing, since there is no IP": {&corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{}}, "a 30s"},
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				m.exec.exit("fails", 1)
				pod := m.run(withHooks(makePod("p", "a"), nil, tt.hook))
				m.run(deleted(pod))
				m.after(time.Minute)
				if !slices.Equal(m.stops(), []string{tt.want}) {
					t.Errorf("stopped %v, want %s", m.stops(), tt.want)
				}
				failed := 0
				if strings.Contains(name, "fail") || strings.Contains(name, "more") || strings.Contains(name, "no IP") {
					failed = 1
				}
				m.wantEvent("Warning a FailedPreStopHook: PreStopHook failed", failed)
			})
		})
	}
}

func TestActiveDeadline(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := makePod("p", "a")
		pod.Spec.ActiveDeadlineSeconds = new(int64(60))
		m.run(pod)
		m.after(30 * time.Second)
		m.restart()
		m.status.Set(pod, corev1.PodStatus{StartTime: new(metav1.NewTime(time.Now().Add(-30 * time.Second)))})
		m.run(pod)
		m.after(29 * time.Second)
		if s := m.statusOf(pod); s.Phase != corev1.PodRunning {
			t.Fatalf("phase is %s before the deadline", s.Phase)
		}
		m.after(time.Second)
		s := m.statusOf(pod)
		if s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || s.ContainerStatuses[0].State.Terminated == nil {
			t.Errorf("%s %s %+v", s.Phase, s.Reason, s.ContainerStatuses)
		}
		m.wantEvent("Normal  DeadlineExceeded: Pod was active on the node longer than the specified deadline", 1)
	})
}

func TestAPodThatHasEndedMeetsNoDeadline(t *testing.T) {
	onMachine(t, func(m *machine) {
		pod := withPolicy(makePod("p", "a"), corev1.RestartPolicyNever)
		pod.Spec.ActiveDeadlineSeconds = new(int64(60))
		m.run(pod)
		m.exit(pod, "a", 0)
		pod.Status.PodStatus = m.statusOf(pod)
		m.restart()
		m.after(time.Hour)
		m.run(pod)
		if s := m.statusOf(pod); s.Phase != corev1.PodSucceeded || s.Reason != "" {
			t.Errorf("%s %s", s.Phase, s.Reason)
		}
	})
}

func TestContainersWithRestartRules(t *testing.T) {
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart,
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
	}
	for name, tt := range map[string]struct {
		pod       corev1.RestartPolicy
		container corev1.ContainerRestartPolicy
		rules     []corev1.ContainerRestartRule
		code      int32
		restarted bool
	}{
		"its own policy restarts":         {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyOnFailure, nil, 1, true},
		"its own policy does not":         {corev1.RestartPolicyAlways, corev1.ContainerRestartPolicyNever, nil, 1, false},
		"a rule that lists the code":      {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, rule("In", 3, 4), 4, true},
		"a rule that does not":            {corev1.RestartPolicyAlways, corev1.ContainerRestartPolicyNever, rule("In", 3, 4), 5, false},
		"a rule for all but some":         {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, rule("NotIn", 3), 5, true},
		"all but some, and it is of them": {corev1.RestartPolicyNever, corev1.ContainerRestartPolicyNever, rule("NotIn", 3), 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			onMachine(t, func(m *machine) {
				pod := withPolicy(makePod("p", "a"), tt.pod)
				pod.Spec.Containers[0].RestartPolicy, pod.Spec.Containers[0].RestartPolicyRules = &tt.container, tt.rules
				m.run(pod)
				m.exit(pod, "a", tt.code)
				want := []string{"a"}
				if tt.restarted {
					want = append(want, "a")
				} else if s := m.statusOf(pod); s.Phase != corev1.PodFailed {
					t.Errorf("phase is %s", s.Phase)
				}
				m.wantStarts(want...)
			})
		})
	}
}
