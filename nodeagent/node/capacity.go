package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
)

// ResourcePIDs names processes and threads in reservations, as upstream; no Pod asks for
// them.
const ResourcePIDs corev1.ResourceName = "pid"

// Capacity is what the machine has.
func Capacity(f Facts) corev1.ResourceList {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(f.Machine.CPUs), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(f.Machine.MemoryBytes, resource.BinarySI),
		corev1.ResourcePods:   *resource.NewQuantity(int64(f.MaxPods), resource.DecimalSI),
	}
	if f.DiskBytes > 0 {
		list[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(f.DiskBytes, resource.BinarySI)
	}
	for size, bytes := range f.Machine.HugePages {
		list[cgroups.HugePageResource(size)] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
	return list
}

// Allocatable is what Pods may use of the machine: what is reserved is not for them, nor
// what must stay free, nor memory that large pages hold.
func Allocatable(f Facts) corev1.ResourceList {
	list := Without(Without(Capacity(f), f.Reserved), f.HeldBack)
	memory := list[corev1.ResourceMemory]
	for _, bytes := range f.Machine.HugePages {
		memory.Sub(*resource.NewQuantity(bytes, resource.BinarySI))
	}
	if memory.Sign() < 0 {
		memory.Set(0)
	}
	list[corev1.ResourceMemory] = memory
	return list
}

// Without is list with what is taken off; nothing becomes less than zero.
func Without(list, taken corev1.ResourceList) corev1.ResourceList {
	rest := corev1.ResourceList{}
	for name, quantity := range list {
		left := quantity.DeepCopy()
		left.Sub(taken[name])
		if left.Sign() < 0 {
			left.Set(0)
		}
		rest[name] = left
	}
	return rest
}

// CheckReserved refuses reservations of more than there is, in upstream's words.
func CheckReserved(f Facts) error {
	capacity := Capacity(f)
	if f.Machine.PIDs > 0 {
		capacity[ResourcePIDs] = *resource.NewQuantity(f.Machine.PIDs, resource.DecimalSI)
	}
	var problems []error
	for name, reserved := range f.Reserved {
		if has, known := capacity[name]; known && reserved.Cmp(has) > 0 {
			problems = append(problems, fmt.Errorf("resource %q has a reservation of %v but capacity of %v: expected capacity >= reservation", name, &reserved, &has))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}
