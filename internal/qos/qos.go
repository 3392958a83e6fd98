// Package qos says which quality of service a Pod gets: what it requests and limits, as a
// whole or by its containers, decides. The node agent reports the class and acts on it;
// the gateway shows it before any node has reported. The package decides only, and keeps
// nothing.
package qos

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
)

// Class is the class that requests and limits put a Pod in, as upstream: only cpu and
// memory count. Resources of the Pod as a whole decide alone where it has any.
func Class(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, asks := true, false
	for _, r := range deciding(spec) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, request := r.Limits[name], r.Requests[name]
			if _, ok := r.Requests[name]; !ok {
				request = limit
			}
			asks = asks || !limit.IsZero() || !request.IsZero()
			if limit.IsZero() || limit.Cmp(request) != 0 {
				guaranteed = false
			}
		}
	}
	switch {
	case !asks:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

func deciding(spec *corev1.PodSpec) []corev1.ResourceRequirements {
	if spec.Resources != nil && resource.IsPodLevelResourcesSet(&corev1.Pod{Spec: *spec}) {
		return []corev1.ResourceRequirements{*spec.Resources}
	}
	var all []corev1.ResourceRequirements
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		all = append(all, c.Resources)
	}
	return all
}
