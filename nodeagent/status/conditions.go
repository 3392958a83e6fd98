package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Reasons of Pod conditions, as upstream.
const (
	reasonPodSandboxNotReady     = "PodSandboxNotReady"
	reasonContainersNotReady     = "ContainersNotReady"
	reasonReadinessGatesNotReady = "ReadinessGatesNotReady"
	reasonPodCompleted           = "PodCompleted"
	reasonPodFailed              = "PodFailed"
)

// ownedConditions are the ones that the agent computes; all others belong to other
// writers.
var ownedConditions = []corev1.PodConditionType{
	corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled,
	corev1.AllContainersRestarting,
	corev1.PodResizePending, corev1.PodResizeInProgress,
}

func setConditions(s *corev1.PodStatus, in Input) {
	ready := computeContainersReady(in.Pod, s)
	s.Conditions = []corev1.PodCondition{
		computeReadyToStart(in),
		computeInitialized(in.Pod, s, in.Previous.Conditions),
		computeReady(in.Pod, ready),
		ready,
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
	}
	addRestartingAll(s, in)
	if in.Failure != nil && in.Failure.Disruption {
		s.Conditions = append(s.Conditions, corev1.PodCondition{
			Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonTerminationByKubelet,
			Message: cmp.Or(in.Failure.DisruptionMessage, in.Failure.Message),
		})
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.ObservedGeneration = in.Pod.Generation
		c.LastTransitionTime = in.Now.Rfc3339Copy()
		if old := findCondition(in.Previous.Conditions, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	setResizeConditions(s, in)
}

func findCondition(conditions []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	i := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == t })
	if i < 0 {
		return nil
	}
	return &conditions[i]
}

func computeReadyToStart(in Input) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionFalse, Reason: reasonPodSandboxNotReady}
	switch sandboxes := in.State.Sandboxes; {
	case len(sandboxes) == 0:
		c.Message = "no pod sandbox exists"
	case sandboxes[0].State != runtime.Running:
		c.Message = "pod sandbox is not ready"
	default:
		c.Status, c.Reason = corev1.ConditionTrue, ""
	}
	return c
}

func computeContainersReady(pod *keelsonv1.Pod, s *corev1.PodStatus) corev1.PodCondition {
	c := corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionFalse}
	switch s.Phase {
	case corev1.PodSucceeded:
		c.Reason = reasonPodCompleted
		return c
	case corev1.PodFailed:
		c.Reason = reasonPodFailed
		return c
	}
	var unready []string
	for _, name := range lastingContainers(&pod.Spec) {
		if status := Find(s, name); status == nil || !status.Ready {
			unready = append(unready, name)
		}
	}
	if len(unready) > 0 {
		c.Reason, c.Message = reasonContainersNotReady, fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = corev1.ConditionTrue
	return c
}

func computeReady(pod *keelsonv1.Pod, containers corev1.PodCondition) corev1.PodCondition {
	c := containers
	c.Type = corev1.PodReady
	if c.Status != corev1.ConditionTrue {
		return c
	}
	var missing []string
	for _, gate := range pod.Spec.ReadinessGates {
		switch got := findCondition(pod.Status.Conditions, gate.ConditionType); {
		case got == nil:
			missing = append(missing, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		case got.Status != corev1.ConditionTrue:
			missing = append(missing, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, got.Status))
		}
	}
	if len(missing) > 0 {
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonReadinessGatesNotReady, strings.Join(missing, ", ")
	}
	return c
}

// mergeConditions returns owned with the conditions of inAPI that others wrote. Whoever
// disrupts a Pod says so in one condition: the agent's own word replaces others'.
func mergeConditions(owned, inAPI []corev1.PodCondition) []corev1.PodCondition {
	merged := make([]corev1.PodCondition, 0, len(owned)+len(inAPI))
	for _, c := range inAPI {
		if !slices.Contains(ownedConditions, c.Type) && findCondition(owned, c.Type) == nil {
			merged = append(merged, c)
		}
	}
	return append(merged, owned...)
}
