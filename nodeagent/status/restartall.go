package status

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// A container whose rule says RestartAllContainers takes all others of its Pod along:
// they are ended and removed, and start anew in the same sandbox, from the first init
// container on (KEP-5532). Words and order are upstream's.
const (
	// ReasonRestartingAll is why a container of such a Pod is gone.
	ReasonRestartingAll = "RestartingAllContainers"

	reasonRestartAllStarted  = "RestartAllContainersStarted"
	messageRestartAllStarted = "container exited with restart policy rule"
	messageRestartingAll     = "The container is removed because RestartAllContainers in place"
)

// ruleFor is the first rule of a container that an exit code matches, nil when none does.
func ruleFor(c *corev1.Container, code int32) *corev1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		if matches(c.RestartPolicyRules[i], code) {
			return &c.RestartPolicyRules[i]
		}
	}
	return nil
}

// RestartsAll says that a container that ended with code takes the others along.
func RestartsAll(c *corev1.Container, code int32) bool {
	rule := ruleFor(c, code)
	return rule != nil && rule.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// couldRestartAll says that some container of spec may take the others along.
func couldRestartAll(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(restartable(spec), func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	})
}

// restartable are the containers that are made anew: init containers and the Pod's own.
func restartable(spec *corev1.PodSpec) []*corev1.Container {
	var all []*corev1.Container
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			all = append(all, &list[i])
		}
	}
	return all
}

// RestartingAll says that all containers of a Pod are being made anew: one of them ended
// so, or an earlier look found that one had and not all are gone yet.
func RestartingAll(spec *corev1.PodSpec, state runtime.PodState, previous corev1.PodStatus) bool {
	if !couldRestartAll(spec) {
		return false
	}
	if c := findCondition(previous.Conditions, corev1.AllContainersRestarting); c != nil && c.Status == corev1.ConditionTrue {
		return true
	}
	return slices.ContainsFunc(restartable(spec), func(c *corev1.Container) bool {
		attempts := attemptsOf(state.Containers, c.Name)
		return len(attempts) > 0 && attempts[0].State == runtime.Exited && RestartsAll(c, attempts[0].ExitCode)
	})
}

// allGone says that nothing is left of the containers that are made anew.
func allGone(spec *corev1.PodSpec, state runtime.PodState) bool {
	return !slices.ContainsFunc(restartable(spec), func(c *corev1.Container) bool {
		return len(attemptsOf(state.Containers, c.Name)) > 0
	})
}

// addRestartingAll appends the condition that only Pods with such a rule have.
func addRestartingAll(s *corev1.PodStatus, in Input) {
	if !couldRestartAll(&in.Pod.Spec) {
		return
	}
	c := corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch {
	case s.Phase == corev1.PodSucceeded:
		c.Reason = reasonPodCompleted
	case s.Phase == corev1.PodFailed:
		c.Reason = reasonPodFailed
	case RestartingAll(&in.Pod.Spec, in.State, in.Previous) && !allGone(&in.Pod.Spec, in.State):
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, reasonRestartAllStarted, messageRestartAllStarted
	}
	s.Conditions = append(s.Conditions, c)
}

// removedForRestart is the status of a container that was removed to be made anew; ok is
// false for one that was not, or that waits already.
func removedForRestart(in Input, spec *corev1.Container, previous *corev1.ContainerStatus) (s corev1.ContainerStatus, ok bool) {
	if previous == nil || previous.State.Waiting != nil || in.Terminal || !RestartingAll(&in.Pod.Spec, in.State, in.Previous) {
		return s, false
	}
	return corev1.ContainerStatus{
		Name: spec.Name, Image: spec.Image, RestartCount: previous.RestartCount + 1,
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: ReasonRestartingAll, Message: messageRestartingAll}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: ExitCodeUnknown, Reason: ReasonRestartingAll, Message: messageRestartingAll}},
	}, true
}

// RestartsAfter says whether a container starts again after an end.
func RestartsAfter(spec *corev1.PodSpec, c *corev1.Container, end *corev1.ContainerStateTerminated) bool {
	return end.Reason == ReasonRestartingAll || ShouldRestart(spec, c, end.ExitCode)
}
