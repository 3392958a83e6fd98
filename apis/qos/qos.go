// Package qos says which quality of service a Pod gets: what its containers request and
// limit decides. The node agent reports the class and acts on it; the gateway shows it
// before any node has reported. The package decides only, and keeps nothing.
package qos

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Class is the class that requests and limits put a Pod in, as upstream: only cpu and
// memory count.
func Class(spec *corev1.PodSpec) corev1.PodQOSClass {
	guaranteed, asks := true, false
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		r := c.Resources
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
