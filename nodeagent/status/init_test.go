package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestPhaseWithInitContainers(t *testing.T) {
	state := func(name string, s corev1.ContainerState, started bool) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: s, Started: &started}
	}
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waits := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	ended := func(code int32) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}
	}
	const always, never = corev1.RestartPolicyAlways, corev1.RestartPolicyNever
	for name, tt := range map[string]struct {
		policy                corev1.RestartPolicy
		init, sidecar, main   corev1.ContainerStatus
		terminal, initialized bool
		want                  corev1.PodPhase
	}{
		"the init container runs":        {always, state("i", runs, true), state("s", waits, false), state("a", waits, false), false, false, corev1.PodPending},
		"it failed, and will again":      {always, state("i", ended(1), false), state("s", waits, false), state("a", waits, false), false, false, corev1.PodPending},
		"it failed for good":             {never, state("i", ended(1), false), state("s", waits, false), state("a", waits, false), false, false, corev1.PodFailed},
		"the sidecar has not started":    {always, state("i", ended(0), false), state("s", runs, false), state("a", waits, false), false, false, corev1.PodPending},
		"all run":                        {always, state("i", ended(0), false), state("s", runs, true), state("a", runs, true), false, true, corev1.PodRunning},
		"the sidecar starts again":       {always, state("i", ended(0), false), state("s", runs, false), state("a", runs, true), false, true, corev1.PodRunning},
		"the sidecar has ended":          {always, state("i", ended(0), false), state("s", ended(1), false), state("a", runs, true), false, true, corev1.PodRunning},
		"only the sidecar runs":          {never, state("i", ended(0), false), state("s", runs, true), state("a", ended(0), false), false, true, corev1.PodRunning},
		"all ended well but the sidecar": {never, state("i", ended(0), false), state("s", ended(137), false), state("a", ended(0), false), true, true, corev1.PodSucceeded},
		"stopped in the initialization":  {always, state("i", ended(137), false), state("s", waits, false), state("a", waits, false), true, false, corev1.PodFailed},
	} {
		t.Run(name, func(t *testing.T) {
			spec := makePod("a").Spec
			spec.RestartPolicy = tt.policy
			spec.InitContainers = []corev1.Container{{Name: "i"}, {Name: "s", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			if got := ComputePhase(&spec, []corev1.ContainerStatus{tt.main, tt.init, tt.sidecar}, tt.terminal, tt.initialized); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestHealthDecidesReadiness(t *testing.T) {
	for name, tt := range map[string]struct {
		started, ready         bool
		wantStarted, wantReady bool
	}{
		"not started": {false, true, false, false},
		"not ready":   {true, false, true, false},
		"ready":       {true, true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Pod: makePod("a"), Now: now}
			in.State.Containers = append(in.State.Containers, running("a", 0))
			in.Health = func(string) (bool, bool) { return tt.started, tt.ready }
			s := Compute(in)
			c := s.ContainerStatuses[0]
			got := []bool{*c.Started, c.Ready, findCondition(s.Conditions, corev1.PodReady).Status == corev1.ConditionTrue}
			if diff := cmp.Diff([]bool{tt.wantStarted, tt.wantReady, tt.wantReady}, got); diff != "" {
				t.Errorf("started, ready, Pod ready (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPodThatFailsShowsItWhenNothingOfItRuns(t *testing.T) {
	in := Input{Pod: makePod("a"), Now: now}
	in.State.Containers = append(in.State.Containers, running("a", 0))
	in.Previous.Phase = corev1.PodRunning
	in.Failure = &Failure{Reason: "DeadlineExceeded", Message: "too long"}
	s := Compute(in)
	ready := findCondition(s.Conditions, corev1.PodReady)
	if s.Phase != corev1.PodRunning || s.Reason != "" || ready.Status != corev1.ConditionFalse || ready.Reason != "PodFailed" {
		t.Errorf("while it runs: %s %q, %+v", s.Phase, s.Reason, ready)
	}
	in.Previous, in.Terminal = s, true
	in.State.Containers[0] = exited("a", 0, 137)
	if s = Compute(in); s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" || s.Message != "too long" {
		t.Errorf("afterwards: %s %q %q", s.Phase, s.Reason, s.Message)
	}
}
