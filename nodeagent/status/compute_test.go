package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var (
	now   = metav1.NewTime(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	start = now.Add(-time.Minute)
	end   = now.Add(-time.Second)
)

func makePod(containers ...string) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", UID: "uid", Generation: 3}}
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	for _, c := range containers {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c, Image: "image"})
	}
	return pod
}

func running(name string, attempt uint32) runtime.Container {
	return runtime.Container{ID: name + "-id", Name: name, Attempt: attempt, State: runtime.Running, Image: "image", ImageID: "image@sha256:1", StartedAt: start}
}

func exited(name string, attempt uint32, code int32) runtime.Container {
	c := running(name, attempt)
	c.ID, c.State, c.ExitCode, c.Reason, c.FinishedAt = name+"-old", runtime.Exited, code, "Error", end
	if code == 0 {
		c.Reason = "Completed"
	}
	return c
}

func unstartable(name string) runtime.Container {
	c := exited(name, 0, 128)
	c.Reason = runtime.ReasonStartError
	return c
}

func sandbox() []runtime.Sandbox { return []runtime.Sandbox{{ID: "s", State: runtime.Running}} }

func TestPhase(t *testing.T) {
	ran := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	}
	ended := func(name string, code int32) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
	}
	waits := func(name string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}}
	}
	backsOff := func(name string, code int32) corev1.ContainerStatus {
		s := waits(name)
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code}
		return s
	}
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	tests := map[string]struct {
		policy   corev1.RestartPolicy
		statuses []corev1.ContainerStatus
		terminal bool
		want     corev1.PodPhase
	}{
		"C4-44: nothing known yet":                    {always, nil, false, corev1.PodPending},
		"C4-44: one still waits":                      {always, []corev1.ContainerStatus{ran("a"), waits("b")}, false, corev1.PodPending},
		"C4-44: all run":                              {always, []corev1.ContainerStatus{ran("a"), ran("b")}, false, corev1.PodRunning},
		"C4-45: success, Always":                      {always, []corev1.ContainerStatus{ended("a", 0), ended("b", 0)}, false, corev1.PodRunning},
		"C4-45: success, OnFailure":                   {onFailure, []corev1.ContainerStatus{ended("a", 0), ended("b", 0)}, false, corev1.PodSucceeded},
		"C4-45: success, Never":                       {never, []corev1.ContainerStatus{ended("a", 0), ended("b", 0)}, false, corev1.PodSucceeded},
		"C4-47: one fails, Always":                    {always, []corev1.ContainerStatus{ran("a"), ended("b", 1)}, false, corev1.PodRunning},
		"C4-47: one fails, OnFailure":                 {onFailure, []corev1.ContainerStatus{ran("a"), ended("b", 1)}, false, corev1.PodRunning},
		"C4-47: one fails, Never":                     {never, []corev1.ContainerStatus{ran("a"), ended("b", 1)}, false, corev1.PodRunning},
		"C4-48: both fail, Always":                    {always, []corev1.ContainerStatus{ended("a", 1), ended("b", 1)}, false, corev1.PodRunning},
		"C4-48: both fail, OnFailure":                 {onFailure, []corev1.ContainerStatus{ended("a", 1), ended("b", 1)}, false, corev1.PodRunning},
		"C4-48: both fail, Never":                     {never, []corev1.ContainerStatus{ended("a", 1), ended("b", 1)}, false, corev1.PodFailed},
		"one success and one failure, Never":          {never, []corev1.ContainerStatus{ended("a", 0), ended("b", 1)}, false, corev1.PodFailed},
		"all back off":                                {always, []corev1.ContainerStatus{backsOff("a", 1), backsOff("b", 0)}, false, corev1.PodRunning},
		"one backs off, one runs":                     {always, []corev1.ContainerStatus{backsOff("a", 1), ran("b")}, false, corev1.PodRunning},
		"stopped for good with success":               {always, []corev1.ContainerStatus{ended("a", 0), ended("b", 0)}, true, corev1.PodSucceeded},
		"stopped for good with a failure":             {always, []corev1.ContainerStatus{ended("a", 0), ended("b", 137)}, true, corev1.PodFailed},
		"stopped before everything had started":       {always, []corev1.ContainerStatus{ended("a", 0), waits("b")}, true, corev1.PodFailed},
		"stopped while one was backing off (success)": {always, []corev1.ContainerStatus{ended("a", 0), backsOff("b", 0)}, true, corev1.PodFailed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec := makePod("a", "b").Spec
			spec.RestartPolicy = tt.policy
			if got := ComputePhase(&spec, tt.statuses, tt.terminal, true); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestContainerStates(t *testing.T) {
	lastRunning := corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Name: "a", RestartCount: 2, ContainerID: "fake://gone", ImageID: "image@sha256:1",
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(start)}},
	}}}
	terminated := func(c runtime.Container) *corev1.ContainerStateTerminated {
		return &corev1.ContainerStateTerminated{ExitCode: c.ExitCode, Reason: c.Reason, StartedAt: metav1.NewTime(start),
			FinishedAt: metav1.NewTime(end), ContainerID: "fake://" + c.ID}
	}
	tests := map[string]struct {
		containers []runtime.Container
		previous   corev1.PodStatus
		waiting    *corev1.ContainerStateWaiting
		never      bool // restartPolicy
		terminal   bool
		want       corev1.ContainerStatus
	}{
		"not made yet": {
			want: corev1.ContainerStatus{Name: "a", Image: "image", Started: new(false),
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
		},
		"runs for the second time": {
			containers: []runtime.Container{running("a", 1), exited("a", 0, 3)},
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-id", RestartCount: 1,
				Ready: true, Started: new(true),
				State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(start)}},
				LastTerminationState: corev1.ContainerState{Terminated: terminated(exited("a", 0, 3))}},
		},
		"ended": {
			containers: []runtime.Container{exited("a", 0, 3)},
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-old", Started: new(false),
				State: corev1.ContainerState{Terminated: terminated(exited("a", 0, 3))}},
		},
		"ended and held off": {
			containers: []runtime.Container{exited("a", 4, 3)}, waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"},
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-old", RestartCount: 4,
				Started:              new(false),
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				LastTerminationState: corev1.ContainerState{Terminated: terminated(exited("a", 4, 3))}},
		},
		"could not start, and is tried again": {
			containers: []runtime.Container{unstartable("a")}, waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError"},
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-old", Started: new(false),
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError"}},
				LastTerminationState: corev1.ContainerState{Terminated: terminated(unstartable("a"))}},
		},
		"could not start, and is not tried again": {
			containers: []runtime.Container{unstartable("a")}, waiting: &corev1.ContainerStateWaiting{Reason: "RunContainerError"}, never: true,
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-old", Started: new(false),
				State: corev1.ContainerState{Terminated: terminated(unstartable("a"))}},
		},
		"held off, but the Pod is being ended": {
			containers: []runtime.Container{exited("a", 4, 3)}, waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}, terminal: true,
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://a-old", RestartCount: 4,
				Started: new(false), State: corev1.ContainerState{Terminated: terminated(exited("a", 4, 3))}},
		},
		"ran, and is lost": {
			previous: lastRunning,
			want: corev1.ContainerStatus{Name: "a", Image: "image", RestartCount: 3, Started: new(false),
				State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", StartedAt: metav1.NewTime(start), ContainerID: "fake://gone",
					Message: "The container could not be located when the pod was deleted.  The container used to be Running"}}},
		},
		"never ran, and the Pod ends": {
			terminal: true,
			want: corev1.ContainerStatus{Name: "a", Image: "image", Started: new(false),
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown",
					Message: "The container could not be located when the pod was terminated"}}},
		},
		"ran, and is lost while the Pod ends": {
			previous: lastRunning, terminal: true,
			want: corev1.ContainerStatus{Name: "a", Image: "image", ImageID: "image@sha256:1", ContainerID: "fake://gone", RestartCount: 2, Started: new(false),
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", StartedAt: metav1.NewTime(start), ContainerID: "fake://gone",
					Message: "The container could not be located when the pod was terminated"}}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			in := Input{Pod: makePod("a"), Previous: tt.previous, RuntimeName: "fake", Terminal: tt.terminal, Now: now,
				State: runtime.PodState{Sandboxes: sandbox(), Containers: tt.containers}}
			if tt.never {
				in.Pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			}
			if tt.waiting != nil {
				in.Waiting = map[string]corev1.ContainerStateWaiting{"a": *tt.waiting}
			}
			got := Compute(in).ContainerStatuses
			got[0].Resources = nil // TestResizeShows looks at them
			if diff := cmp.Diff([]corev1.ContainerStatus{tt.want}, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMessagesAreValidText(t *testing.T) {
	tests := map[string]struct {
		text  string
		limit int
		want  string
	}{
		"short text stays":              {"äöü", 6, "äöü"},
		"long text is cut":              {"abcdef", 3, "abc"},
		"no letter is cut in two":       {"abä", 3, "ab"},
		"what is no text is replaced":   {"a\xffb", 10, "a\uFFFDb"},
		"the replacement is cut as one": {"a\xff", 3, "a"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := validText(tt.text, tt.limit); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	type short struct{ Status, Reason, Message string }
	tests := map[string]struct {
		pod  *keelsonv1.Pod
		in   Input
		want map[corev1.PodConditionType]short
	}{
		"nothing yet": {
			pod: makePod("a"),
			want: map[corev1.PodConditionType]short{
				"PodReadyToStartContainers": {"False", "PodSandboxNotReady", "no pod sandbox exists"},
				"Initialized":               {"True", "", ""}, "PodScheduled": {"True", "", ""},
				"ContainersReady": {"False", "ContainersNotReady", "containers with unready status: [a]"},
				"Ready":           {"False", "ContainersNotReady", "containers with unready status: [a]"},
			},
		},
		"all run": {
			pod: makePod("a"),
			in:  Input{State: runtime.PodState{Sandboxes: sandbox(), Containers: []runtime.Container{running("a", 0)}}},
			want: map[corev1.PodConditionType]short{
				"PodReadyToStartContainers": {"True", "", ""}, "Initialized": {"True", "", ""}, "PodScheduled": {"True", "", ""},
				"ContainersReady": {"True", "", ""}, "Ready": {"True", "", ""},
			},
		},
		"succeeded": {
			pod: makePod("a"),
			in: Input{Terminal: true, State: runtime.PodState{
				Sandboxes: []runtime.Sandbox{{State: runtime.Exited}}, Containers: []runtime.Container{exited("a", 0, 0)}}},
			want: map[corev1.PodConditionType]short{
				"PodReadyToStartContainers": {"False", "PodSandboxNotReady", "pod sandbox is not ready"},
				"Initialized":               {"True", "PodCompleted", ""}, "PodScheduled": {"True", "", ""},
				"ContainersReady": {"False", "PodCompleted", ""}, "Ready": {"False", "PodCompleted", ""},
			},
		},
		"failed": {
			pod: makePod("a"),
			in:  Input{Failure: &Failure{Reason: "OutOfcpu"}},
			want: map[corev1.PodConditionType]short{
				"PodReadyToStartContainers": {"False", "PodSandboxNotReady", "no pod sandbox exists"},
				"Initialized":               {"True", "", ""}, "PodScheduled": {"True", "", ""},
				"ContainersReady": {"False", "PodFailed", ""}, "Ready": {"False", "PodFailed", ""},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.in.Pod, tt.in.Now = tt.pod, now
			got := map[corev1.PodConditionType]short{}
			for _, c := range Compute(tt.in).Conditions {
				got[c.Type] = short{string(c.Status), c.Reason, c.Message}
				if c.ObservedGeneration != 3 || !c.LastTransitionTime.Equal(&now) {
					t.Errorf("%s: generation %d, changed %v", c.Type, c.ObservedGeneration, c.LastTransitionTime)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTransitionTimeMovesWithTheStatusOnly(t *testing.T) {
	in := Input{Pod: makePod("a"), Now: now}
	in.Previous = Compute(in)
	in.Now = metav1.NewTime(now.Add(time.Hour))
	in.State = runtime.PodState{Sandboxes: sandbox()}
	for _, c := range Compute(in).Conditions {
		moved := c.LastTransitionTime.After(now.Time)
		if moved != (c.Type == corev1.PodReadyToStartContainers) {
			t.Errorf("%s: moved %v", c.Type, moved)
		}
	}
}

func TestTerminalPhaseStays(t *testing.T) {
	in := Input{Pod: makePod("a"), Now: now, Previous: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfcpu", Message: "m", PodIP: "10.244.0.9"},
		State: runtime.PodState{Sandboxes: sandbox(), Containers: []runtime.Container{running("a", 0)}}}
	s := Compute(in)
	if s.Phase != corev1.PodFailed || s.Reason != "OutOfcpu" || s.Message != "m" || s.PodIP != "10.244.0.9" {
		t.Errorf("got %s %s %s %s", s.Phase, s.Reason, s.Message, s.PodIP)
	}
}

func TestUrgent(t *testing.T) {
	base := func() Input { return Input{Pod: makePod("a"), Now: now} }
	pending := Compute(base())
	up := base()
	up.State = runtime.PodState{Sandboxes: sandbox(), Containers: []runtime.Container{running("a", 0)}}
	isUp := Compute(up)
	pulling := base()
	pulling.Waiting = map[string]corev1.ContainerStateWaiting{"a": {Reason: "ErrImagePull"}}
	isPulling := Compute(pulling)
	restarted := up
	restarted.State.Containers = []runtime.Container{running("a", 1)}
	restarted.State.Containers[0].ID = "another"
	isRestarted := Compute(restarted)

	tests := map[string]struct {
		inAPI, wanted corev1.PodStatus
		want          bool
	}{
		"the first look":    {corev1.PodStatus{Phase: corev1.PodPending}, pending, false},
		"starts to run":     {pending, isUp, true},
		"cannot pull":       {pending, isPulling, true},
		"nothing new":       {isUp, isUp, false},
		"another container": {isUp, isRestarted, true},
		"no longer ready":   {isUp, pending, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := urgent(&tt.inAPI, &tt.wanted); got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
