package state

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Requests that a container without its own counts for in scores (never in
// filters), so that Pods without requests spread too. The values are upstream's
// (pkg/scheduler/util/pod_resources.go).
const (
	defaultMilliCPU = 100
	defaultMemory   = 200 * 1024 * 1024
)

// Amounts is a resource list in plain integers: CPU in thousandths, the rest in
// units or bytes.
type Amounts struct {
	MilliCPU, Memory, EphemeralStorage int64
	// Scalar holds every other resource except pods.
	Scalar map[corev1.ResourceName]int64
}

// NewAmounts reads list.
func NewAmounts(list corev1.ResourceList) Amounts {
	var a Amounts
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			a.MilliCPU = quantity.MilliValue()
		case corev1.ResourceMemory:
			a.Memory = quantity.Value()
		case corev1.ResourceEphemeralStorage:
			a.EphemeralStorage = quantity.Value()
		case corev1.ResourcePods:
		default:
			if a.Scalar == nil {
				a.Scalar = map[corev1.ResourceName]int64{}
			}
			a.Scalar[name] = quantity.Value()
		}
	}
	return a
}

// Plus returns a + sign*b without changing either.
func (a Amounts) Plus(b Amounts, sign int64) Amounts {
	a.MilliCPU += sign * b.MilliCPU
	a.Memory += sign * b.Memory
	a.EphemeralStorage += sign * b.EphemeralStorage
	if len(b.Scalar) == 0 {
		return a
	}
	sum := maps.Clone(a.Scalar)
	if sum == nil {
		sum = map[corev1.ResourceName]int64{}
	}
	for name, value := range b.Scalar {
		sum[name] += sign * value
	}
	a.Scalar = sum
	return a
}

// IsZero tells whether nothing is asked for, not even an amount of zero of some
// uncommon resource.
func (a Amounts) IsZero() bool {
	return a.MilliCPU == 0 && a.Memory == 0 && a.EphemeralStorage == 0 && len(a.Scalar) == 0
}

// Get returns the amount of one resource.
func (a Amounts) Get(name corev1.ResourceName) int64 {
	switch name {
	case corev1.ResourceCPU:
		return a.MilliCPU
	case corev1.ResourceMemory:
		return a.Memory
	case corev1.ResourceEphemeralStorage:
		return a.EphemeralStorage
	default:
		return a.Scalar[name]
	}
}

// podRequests is what the Pod needs: requests of the Pod itself, of containers, init
// containers and sidecars as they run beside each other, and overhead.
func podRequests(pod *corev1.Pod) Amounts {
	return NewAmounts(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
}

// boundRequests is podRequests of a Pod that has a Node: while its resources are being
// changed in place, the larger of what it has and what it asks for counts.
func boundRequests(pod *corev1.Pod) Amounts {
	return NewAmounts(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{UseStatusResources: true}))
}

// scoredRequests is podRequests with defaults where a container says nothing.
func scoredRequests(pod *corev1.Pod) Amounts {
	return NewAmounts(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		UseStatusResources: pod.Spec.NodeName != "",
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
		},
	}))
}
