package status

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

const (
	reasonCompleted                = "Completed"
	reasonContainersNotInitialized = "ContainersNotInitialized"

	messageInitUnknown = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
)

// Initialized says that a container of the Pod's own was made in its newest sandbox:
// the initialization is over. After that only sidecars are kept running.
func Initialized(pod *keelsonv1.Pod, state runtime.PodState) bool {
	if len(pod.Spec.InitContainers) == 0 {
		return true
	}
	if len(state.Sandboxes) == 0 {
		return false
	}
	return slices.ContainsFunc(state.Containers, func(c runtime.Container) bool {
		return c.SandboxID == state.Sandboxes[0].ID && isMain(&pod.Spec, c.Name)
	})
}

func isMain(spec *corev1.PodSpec, name string) bool {
	return slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool { return c.Name == name })
}

// Find returns the status of a container or init container, nil when there is none.
func Find(s *corev1.PodStatus, name string) *corev1.ContainerStatus {
	if found := find(s.ContainerStatuses, name); found != nil {
		return found
	}
	return find(s.InitContainerStatuses, name)
}

// computeInitContainers returns one status for each init container, in the order of the
// spec.
func computeInitContainers(in Input) []corev1.ContainerStatus {
	if in.Failure != nil && len(in.State.Containers) == 0 {
		return in.Previous.InitContainerStatuses
	}
	terminal := in.Terminal
	if terminal {
		in.Terminal, in.Waiting = false, nil // what never started is told apart below
	}
	var statuses []corev1.ContainerStatus
	for i := range in.Pod.Spec.InitContainers {
		spec := &in.Pod.Spec.InitContainers[i]
		s := computeContainer(in, spec)
		if !IsSidecar(spec) {
			completeInit(&s, in)
		}
		statuses = append(statuses, s)
	}
	if terminal {
		loseInit(statuses)
	}
	return statuses
}

// completeInit says of an ordinary init container whether it has done its work. One of
// which nothing is left must have, once the Pod's own containers have been made.
func completeInit(s *corev1.ContainerStatus, in Input) {
	made := slices.ContainsFunc(in.State.Containers, func(c runtime.Container) bool { return isMain(&in.Pod.Spec, c.Name) })
	if s.State.Waiting != nil && made && len(attemptsOf(in.State.Containers, s.Name)) == 0 {
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Reason: reasonCompleted, Message: messageInitUnknown}}
	}
	s.Ready = s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
}

// loseInit ends the init containers of a stopped Pod of which nobody saw the end, up to
// the last that ran, or the first if none did. The others never had their turn.
func loseInit(statuses []corev1.ContainerStatus) {
	last := 0
	for i := range statuses {
		if statuses[i].State.Waiting == nil || statuses[i].LastTerminationState.Terminated != nil {
			last = i
		}
	}
	for i := range statuses {
		if i <= last && statuses[i].State.Terminated == nil {
			statuses[i].State = corev1.ContainerState{Terminated: lost(messageLost)}
			statuses[i].Started, statuses[i].Ready = new(false), false
		}
	}
}

// wasInitialized says that the Pod's own containers had their turn.
func wasInitialized(in Input, inits []corev1.ContainerStatus) bool {
	if len(inits) == 0 || Initialized(in.Pod, in.State) {
		return true
	}
	if slices.ContainsFunc(in.Previous.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.LastTerminationState.Terminated != nil || s.State.Waiting == nil
	}) {
		return true
	}
	last := &inits[len(inits)-1]
	if IsSidecar(&in.Pod.Spec.InitContainers[len(inits)-1]) {
		return last.State.Running != nil && last.Started != nil && *last.Started
	}
	return last.Ready || last.LastTerminationState.Terminated != nil && last.LastTerminationState.Terminated.ExitCode == 0
}

// lastingContainers are those that the readiness of the Pod depends on: sidecars, then
// its own.
func lastingContainers(spec *corev1.PodSpec) []string {
	var names []string
	for i := range spec.InitContainers {
		if IsSidecar(&spec.InitContainers[i]) {
			names = append(names, spec.InitContainers[i].Name)
		}
	}
	for i := range spec.Containers {
		names = append(names, spec.Containers[i].Name)
	}
	return names
}

func computeInitialized(pod *keelsonv1.Pod, s *corev1.PodStatus, previous []corev1.PodCondition) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodInitialized, Status: corev1.ConditionTrue}
	if s.Phase == corev1.PodSucceeded {
		c.Reason = reasonPodCompleted
		return c
	}
	if slices.ContainsFunc(s.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil
	}) {
		return c // sidecars that restart change nothing
	}
	var unknown, incomplete []string
	for i := range pod.Spec.InitContainers {
		spec := &pod.Spec.InitContainers[i]
		switch status := find(s.InitContainerStatuses, spec.Name); {
		case status == nil:
			unknown = append(unknown, spec.Name)
		case IsSidecar(spec) && (status.Started == nil || !*status.Started), !IsSidecar(spec) && !status.Ready:
			incomplete = append(incomplete, spec.Name)
		}
	}
	var messages []string
	if len(unknown) > 0 {
		messages = append(messages, fmt.Sprintf("containers with unknown status: %s", unknown))
	}
	if len(incomplete) > 0 {
		messages = append(messages, fmt.Sprintf("containers with incomplete status: %s", incomplete))
	}
	if before := findCondition(previous, corev1.PodInitialized); before != nil && before.Status == corev1.ConditionTrue && couldRestartAll(&pod.Spec) {
		return c // who is made anew was initialized once
	}
	if len(messages) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonContainersNotInitialized, strings.Join(messages, ", ")
	}
	return c
}
