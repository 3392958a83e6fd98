package scheduler

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

// amounts is a resource list in plain integers: CPU in thousandths, the rest in
// units or bytes.
type amounts struct {
	milliCPU, memory, ephemeralStorage int64
	// scalar holds every other resource except pods.
	scalar map[corev1.ResourceName]int64
}

func newAmounts(list corev1.ResourceList) amounts {
	var a amounts
	for name, quantity := range list {
		switch name {
		case corev1.ResourceCPU:
			a.milliCPU = quantity.MilliValue()
		case corev1.ResourceMemory:
			a.memory = quantity.Value()
		case corev1.ResourceEphemeralStorage:
			a.ephemeralStorage = quantity.Value()
		case corev1.ResourcePods:
		default:
			if a.scalar == nil {
				a.scalar = map[corev1.ResourceName]int64{}
			}
			a.scalar[name] = quantity.Value()
		}
	}
	return a
}

// plus returns a + sign*b without changing either.
func (a amounts) plus(b amounts, sign int64) amounts {
	a.milliCPU += sign * b.milliCPU
	a.memory += sign * b.memory
	a.ephemeralStorage += sign * b.ephemeralStorage
	if len(b.scalar) == 0 {
		return a
	}
	sum := maps.Clone(a.scalar)
	if sum == nil {
		sum = map[corev1.ResourceName]int64{}
	}
	for name, value := range b.scalar {
		sum[name] += sign * value
	}
	a.scalar = sum
	return a
}

func (a amounts) isZero() bool {
	return a.milliCPU == 0 && a.memory == 0 && a.ephemeralStorage == 0 && len(a.scalar) == 0
}

// podRequests is what the Pod needs: the larger of its containers' sum and its
// init containers' maximum, plus overhead.
func podRequests(pod *corev1.Pod) amounts {
	return newAmounts(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}))
}

// podScoredRequests is podRequests with defaults where a container says nothing.
func podScoredRequests(pod *corev1.Pod) amounts {
	return newAmounts(resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{
		NonMissingContainerRequests: corev1.ResourceList{
			corev1.ResourceCPU:    *resource.NewMilliQuantity(defaultMilliCPU, resource.DecimalSI),
			corev1.ResourceMemory: *resource.NewQuantity(defaultMemory, resource.BinarySI),
		},
	}))
}
