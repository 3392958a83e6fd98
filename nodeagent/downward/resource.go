package downward

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Container finds the container that a selector of a Pod's own resources names.
func Container(pod *keelsonv1.Pod, name string) (*corev1.Container, error) {
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i], nil
			}
		}
	}
	return nil, fmt.Errorf("container %s not found", name)
}

// Resource returns the limit or request of container that selector names, in units of
// its divisor, rounded up. A limit that is not set is that of the Pod, else what the
// node can give (allocatable), as upstream.
func Resource(pod *keelsonv1.Pod, container *corev1.Container, selector *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) (string, error) {
	kind, text, _ := strings.Cut(selector.Resource, ".")
	name := corev1.ResourceName(text)
	huge := strings.HasPrefix(text, corev1.ResourceHugePagesPrefix)
	switch {
	case kind != "limits" && kind != "requests":
		return "", unsupported(selector)
	case name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage && !huge:
		return "", unsupported(selector)
	}
	quantity := container.Resources.Requests[name]
	if kind == "limits" {
		quantity = container.Resources.Limits[name]
	}
	if kind == "limits" && !huge && quantity.IsZero() {
		quantity = podLimit(pod, name, allocatable)
	}
	divisor := selector.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	return strconv.FormatInt(divide(name, quantity, divisor), 10), nil
}

func unsupported(selector *corev1.ResourceFieldSelector) error {
	return fmt.Errorf("unsupported container resource : %v", selector.Resource)
}

func podLimit(pod *keelsonv1.Pod, name corev1.ResourceName, allocatable corev1.ResourceList) resource.Quantity {
	if r := pod.Spec.Resources; r != nil && name != corev1.ResourceEphemeralStorage {
		if limit, ok := r.Limits[name]; ok && !limit.IsZero() {
			return limit
		}
	}
	return allocatable[name]
}

// divide rounds up; CPU counts in thousandths.
func divide(name corev1.ResourceName, quantity, divisor resource.Quantity) int64 {
	number, by := quantity.Value(), divisor.Value()
	if name == corev1.ResourceCPU {
		number, by = quantity.MilliValue(), divisor.MilliValue()
	}
	if by == 0 {
		return 0 // a divisor below the unit: admission lets none pass
	}
	whole := number / by
	if number%by > 0 {
		whole++
	}
	return whole
}
