package status

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Resize is how far the node has got with new resources of a running Pod. The zero value
// is "nothing to do".
type Resize struct {
	// Pending says why the newest resources are not the Pod's yet; empty when they are.
	// The reason is PodReasonDeferred or PodReasonInfeasible.
	PendingReason, PendingMessage string
	// InProgress: resources that the node gave have not reached all containers; Error says
	// why the last try failed.
	InProgress bool
	Error      string
	// Generation is the Pod's that the resources in progress came with; 0 is the newest.
	Generation int64
}

// resizeConditions are those of a resize, without time.
func resizeConditions(in Input) []corev1.PodCondition {
	var conditions []corev1.PodCondition
	if in.Resize.PendingReason != "" {
		conditions = append(conditions, corev1.PodCondition{
			Type: corev1.PodResizePending, Status: corev1.ConditionTrue, ObservedGeneration: in.Pod.Generation,
			Reason: in.Resize.PendingReason, Message: in.Resize.PendingMessage,
		})
	}
	if !in.Resize.InProgress {
		return conditions
	}
	progress := corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, ObservedGeneration: in.Resize.Generation}
	if progress.ObservedGeneration == 0 {
		progress.ObservedGeneration = in.Pod.Generation
	}
	if in.Resize.Error != "" {
		progress.Reason, progress.Message = corev1.PodReasonError, in.Resize.Error
	}
	return append(conditions, progress)
}

// setResizeConditions adds the conditions of a resize; like upstream's, the time of one
// is since when it has its reason. A Pod that has ended is not resized.
func setResizeConditions(s *corev1.PodStatus, in Input) {
	if terminalPhase(s.Phase) {
		return
	}
	for _, c := range resizeConditions(in) {
		c.LastTransitionTime = in.Now.Rfc3339Copy()
		if old := findCondition(in.Previous.Conditions, c.Type); old != nil && old.Reason == c.Reason {
			c.LastTransitionTime = old.LastTransitionTime
		}
		s.Conditions = append(s.Conditions, c)
	}
}

// setResources shows what a container has and what it was given: the same, but while a
// resize is in progress.
func setResources(s *corev1.ContainerStatus, spec *corev1.Container, newest *runtime.Container) {
	actual := spec.Resources
	if newest != nil && newest.State == runtime.Running && newest.Resources.CPUShares != 0 {
		actual = Actual(spec.Resources, newest.Resources.Asked)
	}
	if newest != nil || len(actual.Requests) > 0 || len(actual.Limits) > 0 {
		s.Resources = actual.DeepCopy() // of a container that there is also nothing says something
	}
	if len(spec.Resources.Requests) > 0 {
		s.AllocatedResources = spec.Resources.Requests.DeepCopy()
	}
}

// Actual is allocated with the cpu and memory that a container has: nothing else of a
// running one changes.
func Actual(allocated, has corev1.ResourceRequirements) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: actualList(allocated.Requests, has.Requests), Limits: actualList(allocated.Limits, has.Limits), Claims: allocated.Claims,
	}
}

func actualList(allocated, has corev1.ResourceList) corev1.ResourceList {
	list := corev1.ResourceList{}
	for name, quantity := range allocated {
		if !resizable(name) {
			list[name] = quantity
		}
	}
	for name, quantity := range has {
		if resizable(name) {
			list[name] = quantity
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

func resizable(name corev1.ResourceName) bool {
	return slices.Contains([]corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}, name)
}

// setPodResources shows what the Pod as a whole was given, the sum of its containers
// where it says nothing itself.
func setPodResources(s *corev1.PodStatus, in Input) {
	upstream := in.Pod.Upstream()
	requests := resource.PodRequests(upstream, resource.PodResourcesOptions{})
	limits := resource.PodLimits(upstream, resource.PodResourcesOptions{})
	if len(requests) == 0 && len(limits) == 0 {
		return
	}
	s.AllocatedResources, s.Resources = requests, &corev1.ResourceRequirements{Limits: limits}
	s.Resources.Requests = requests.DeepCopy()
	if in.Resize.InProgress && in.Previous.Resources != nil {
		s.Resources = in.Previous.Resources.DeepCopy() // it has what it had until all is done
	}
}
