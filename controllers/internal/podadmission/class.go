package podadmission

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// DefaultPriority finds the class of Pods that name none: among several, upstream takes
// the lowest. nil: priority 0.
func DefaultPriority(all []*schedulingv1.PriorityClass) *schedulingv1.PriorityClass {
	defaults := slices.DeleteFunc(slices.Clone(all), func(c *schedulingv1.PriorityClass) bool { return !c.GlobalDefault })
	if len(defaults) == 0 {
		return nil
	}
	return slices.MinFunc(defaults, func(a, b *schedulingv1.PriorityClass) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(a.Name, b.Name))
	})
}

// Priority gives pod what its class says, as upstream's Priority plugin; class is nil
// for Pods without one.
func Priority(pod *keelsonv1.Pod, class *schedulingv1.PriorityClass) error {
	spec := &pod.Spec
	var priority int32
	if class != nil {
		spec.PriorityClassName, priority = class.Name, class.Value
	}
	if spec.Priority != nil && *spec.Priority != priority {
		return fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *spec.Priority, priority)
	}
	spec.Priority = &priority
	policy := corev1.PreemptLowerPriority
	if class != nil && class.PreemptionPolicy != nil {
		policy = *class.PreemptionPolicy
		if spec.PreemptionPolicy != nil && *spec.PreemptionPolicy != policy {
			return fmt.Errorf("the string value of PreemptionPolicy (%s) must not be provided in pod spec; priority admission controller computed %s from the given PriorityClass name", *spec.PreemptionPolicy, policy)
		}
	}
	if spec.PreemptionPolicy == nil {
		spec.PreemptionPolicy = &policy
	}
	return nil
}

// RuntimeClass gives pod the overhead and the scheduling terms of its class, as
// upstream's RuntimeClass plugin; class is nil for Pods that name none.
func RuntimeClass(pod *keelsonv1.Pod, class *nodev1.RuntimeClass) error {
	spec := &pod.Spec
	if class == nil || class.Overhead == nil {
		if spec.Overhead != nil {
			return fmt.Errorf("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")
		}
	} else {
		if len(spec.Overhead) > 0 && !equality.Semantic.DeepEqual(class.Overhead.PodFixed, spec.Overhead) {
			return fmt.Errorf("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")
		}
		spec.Overhead = class.Overhead.PodFixed.DeepCopy()
	}
	if class == nil || class.Scheduling == nil {
		return nil
	}
	return scheduleFor(spec, class.Scheduling)
}

func scheduleFor(spec *corev1.PodSpec, scheduling *nodev1.Scheduling) error {
	selector := maps.Clone(spec.NodeSelector)
	for _, key := range slices.Sorted(maps.Keys(scheduling.NodeSelector)) {
		value := scheduling.NodeSelector[key]
		if own, has := selector[key]; has && own != value {
			return fmt.Errorf("conflict: runtimeClass.scheduling.nodeSelector[%s] = %s; pod.spec.nodeSelector[%s] = %s", key, value, key, own)
		}
		if selector == nil {
			selector = map[string]string{}
		}
		selector[key] = value
	}
	spec.NodeSelector = selector
	for _, t := range scheduling.Tolerations {
		if !slices.ContainsFunc(spec.Tolerations, func(have corev1.Toleration) bool { return equality.Semantic.DeepEqual(have, t) }) {
			spec.Tolerations = append(slices.Clip(spec.Tolerations), t)
		}
	}
	return nil
}
