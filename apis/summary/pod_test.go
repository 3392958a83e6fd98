package summary

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// podOption changes the Pod that a test case starts from.
type podOption func(*keelsonv1.Pod)

func makePod(phase corev1.PodPhase, options ...podOption) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{}
	pod.Status.Phase = phase
	for _, o := range options {
		o(pod)
	}
	return pod
}

func container(status corev1.ContainerStatus) podOption {
	return func(p *keelsonv1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: status.Name})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, status)
	}
}

func unreported(p *keelsonv1.Pod) {
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "unreported"})
}

func initial(status corev1.ContainerStatus) podOption {
	return func(p *keelsonv1.Pod) {
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: status.Name})
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, status)
	}
}

func sidecar(status corev1.ContainerStatus) podOption {
	return func(p *keelsonv1.Pod) {
		always := corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: status.Name, RestartPolicy: &always})
		p.Status.InitContainerStatuses = append(p.Status.InitContainerStatuses, status)
	}
}

func condition(kind corev1.PodConditionType, status corev1.ConditionStatus, reason string) podOption {
	return func(p *keelsonv1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: status, Reason: reason})
	}
}

func gate(kind corev1.PodConditionType) podOption {
	return func(p *keelsonv1.Pod) {
		p.Spec.ReadinessGates = append(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: kind})
	}
}

func reason(r string) podOption { return func(p *keelsonv1.Pod) { p.Status.Reason = r } }

func deleted(p *keelsonv1.Pod) {
	p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
}

func running(restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", Ready: true, RestartCount: restarts, Started: new(true),
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func unready(restarts int32) corev1.ContainerStatus {
	s := running(restarts)
	s.Ready = false
	return s
}

func waiting(why string, restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", RestartCount: restarts,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: why}}}
}

func ended(why string, code, signal, restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", RestartCount: restarts, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Reason: why, ExitCode: code, Signal: signal}}}
}

func TestPod(t *testing.T) {
	const pending, run, failed, succeeded = corev1.PodPending, corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded
	initialized := condition(corev1.PodInitialized, corev1.ConditionTrue, "")
	ready := condition(corev1.PodReady, corev1.ConditionTrue, "")
	for name, tc := range map[string]struct {
		pod  *keelsonv1.Pod
		want keelsonv1.PodSummary
	}{
		"a Pod nobody reported on shows its phase": {
			makePod(pending, unreported, unreported),
			keelsonv1.PodSummary{Ready: "0/2", Status: "Pending"}},
		"one of two containers is ready": {
			makePod(run, container(running(3)), container(unready(3))),
			keelsonv1.PodSummary{Ready: "1/2", Status: "Running", Restarts: 6}},
		"a container that is ready but reports no state does not count": {
			makePod(run, container(corev1.ContainerStatus{Ready: true, RestartCount: 3})),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Running", Restarts: 3}},
		"a waiting reason replaces the phase": {
			makePod(run, container(waiting("CrashLoopBackOff", 4)), container(running(0))),
			keelsonv1.PodSummary{Ready: "1/2", Status: "CrashLoopBackOff", Restarts: 4}},
		"waiting without a reason keeps the phase": {
			makePod(pending, container(waiting("", 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Pending"}},
		"the first container in order decides": {
			makePod(run, container(waiting("ImagePullBackOff", 0)), container(waiting("CrashLoopBackOff", 1))),
			keelsonv1.PodSummary{Ready: "0/2", Status: "ImagePullBackOff", Restarts: 1}},
		"a terminated reason replaces the phase": {
			makePod(failed, container(ended("OOMKilled", 137, 9, 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "OOMKilled"}},
		"a signal stands in for a reason": {
			makePod(failed, container(ended("", 137, 9, 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Signal:9"}},
		"an exit code stands in for reason and signal": {
			makePod(failed, container(ended("", 2, 0, 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "ExitCode:2"}},
		"a Pod whose containers all completed": {
			makePod(succeeded, container(ended("Completed", 0, 0, 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Completed"}},
		"completed beside running in a ready Pod is Running": {
			makePod(run, ready, container(ended("Completed", 0, 0, 0)), container(running(0))),
			keelsonv1.PodSummary{Ready: "1/2", Status: "Running"}},
		"completed beside running in an unready Pod is NotReady": {
			makePod(run, container(ended("Completed", 0, 0, 0)), container(running(0))),
			keelsonv1.PodSummary{Ready: "1/2", Status: "NotReady"}},
		"completed beside failed shows the failure": {
			makePod(run, container(ended("Completed", 0, 0, 0)), container(ended("Error", 1, 0, 0)), container(running(0))),
			keelsonv1.PodSummary{Ready: "1/3", Status: "Error"}},
		"the Pod's own reason replaces the phase": {
			makePod(failed, reason("Evicted"), unreported),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Evicted"}},
		"a gated Pod says so": {
			makePod(pending, reason("x"), unreported, condition(corev1.PodScheduled, corev1.ConditionFalse, "SchedulingGated")),
			keelsonv1.PodSummary{Ready: "0/1", Status: "SchedulingGated"}},

		"deletion of a running Pod": {
			makePod(run, container(running(0)), deleted),
			keelsonv1.PodSummary{Ready: "1/1", Status: "Terminating"}},
		"deletion of a Pod that is over keeps its reason": {
			makePod(failed, container(ended("Error", 1, 0, 0)), deleted),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Error"}},
		"deletion on a lost node": {
			makePod(run, container(running(0)), reason("NodeLost"), deleted),
			keelsonv1.PodSummary{Ready: "1/1", Status: "Unknown"}},

		"the first init container has not started": {
			makePod(pending, initial(waiting("", 0)), initial(waiting("", 0)), container(waiting("PodInitializing", 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:0/2"}},
		"PodInitializing is no init reason": {
			makePod(pending, initial(ended("Completed", 0, 0, 0)), initial(waiting("PodInitializing", 0)), container(waiting("PodInitializing", 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:1/2"}},
		"a running init container is a stage": {
			makePod(pending, initial(unready(0)), unreported),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:0/1"}},
		"an init container backs off": {
			makePod(pending, initial(waiting("CrashLoopBackOff", 3)), container(waiting("PodInitializing", 0))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:CrashLoopBackOff", Restarts: 3}},
		"an init container failed with a reason": {
			makePod(pending, initial(ended("Error", 1, 0, 2)), unreported),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:Error", Restarts: 2}},
		"an init container was killed": {
			makePod(pending, initial(ended("", 137, 9, 0)), unreported),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:Signal:9"}},
		"an init container failed with a code only": {
			makePod(pending, initial(ended("", 3, 0, 0)), unreported),
			keelsonv1.PodSummary{Ready: "0/1", Status: "Init:ExitCode:3"}},
		"restarts of init containers are forgotten once they are over": {
			makePod(run, initial(ended("Completed", 0, 0, 5)), container(running(1))),
			keelsonv1.PodSummary{Ready: "1/1", Status: "Running", Restarts: 1}},
		"an initialized Pod that repeats an init container shows its main containers": {
			makePod(run, initialized, initial(waiting("CrashLoopBackOff", 2)), container(waiting("CreateContainerError", 1))),
			keelsonv1.PodSummary{Ready: "0/1", Status: "CreateContainerError", Restarts: 1}},

		"a started sidecar counts as a container": {
			makePod(run, sidecar(running(2)), container(running(1))),
			keelsonv1.PodSummary{Ready: "2/2", Status: "Running", Restarts: 3}},
		"a started but unready sidecar holds nothing up": {
			makePod(run, sidecar(unready(0)), container(running(0))),
			keelsonv1.PodSummary{Ready: "1/2", Status: "Running"}},
		"a sidecar that has not started is a stage": {
			makePod(pending, sidecar(waiting("", 0)), container(waiting("PodInitializing", 0))),
			keelsonv1.PodSummary{Ready: "0/2", Status: "Init:0/1"}},

		"readiness gates count true conditions": {
			makePod(run, container(running(0)), gate("a"), gate("b"), gate("c"),
				condition("a", corev1.ConditionTrue, ""), condition("b", corev1.ConditionFalse, "")),
			keelsonv1.PodSummary{Ready: "1/1", Status: "Running", ReadinessGates: "1/3"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Pod(tc.pod)); diff != "" {
				t.Errorf("Pod() (-want +got):\n%s", diff)
			}
		})
	}
}

// endedAt is a container that was started again after it had ended at second at.
func endedAt(name string, restarts int32, at int64) corev1.ContainerStatus {
	c := corev1.ContainerStatus{Name: name, RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, Ready: true}
	if at > 0 {
		c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{FinishedAt: metav1.Unix(at, 0)}
	}
	return c
}

// TestLastRestart follows upstream's printer, which shows "5 (10d ago)".
func TestLastRestart(t *testing.T) {
	done := endedAt("init", 3, 90)
	done.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	started := endedAt("sidecar", 2, 50)
	started.Started = new(true)
	for name, tt := range map[string]struct {
		pod      *keelsonv1.Pod
		restarts int32
		want     int64
	}{
		"no restart":                         {makePod(corev1.PodRunning, container(endedAt("a", 0, 0))), 0, 0},
		"an end without a restart":           {makePod(corev1.PodRunning, container(endedAt("a", 0, 7))), 0, 0},
		"the last of two containers":         {makePod(corev1.PodRunning, container(endedAt("a", 1, 30)), container(endedAt("b", 2, 20))), 3, 30},
		"a restart of which no end is known": {makePod(corev1.PodRunning, container(endedAt("a", 1, 0))), 1, 0},
		"an init container that is over":     {makePod(corev1.PodRunning, initial(done), container(endedAt("a", 1, 20))), 1, 20},
		"an init container that is not":      {makePod(corev1.PodPending, initial(endedAt("init", 3, 90)), container(endedAt("a", 0, 0))), 3, 90},
		"a sidecar":                          {makePod(corev1.PodRunning, initial(done), sidecar(started), container(endedAt("a", 1, 20))), 3, 50},
	} {
		t.Run(name, func(t *testing.T) {
			got := Pod(tt.pod)
			var last int64
			if got.LastRestart != nil {
				last = got.LastRestart.Unix()
			}
			if got.Restarts != tt.restarts || last != tt.want {
				t.Errorf("%d restarts, the last at %d, want %d and %d", got.Restarts, last, tt.restarts, tt.want)
			}
		})
	}
}
