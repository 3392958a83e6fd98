package lifecycle

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

const (
	milliPerCPU    = 1000
	quotaPeriod    = 100_000 // microseconds
	minQuota       = 1_000   // microseconds; the kernel takes no less
	oomGuaranteed  = -997
	oomBestEffort  = 1000
	oomBurstableLo = 1000 + oomGuaranteed

	// nodeCritical is the least priority of Pods without which the node is none, as
	// system-node-critical.
	nodeCritical = 2_000_001_000
)

// Capacity is what limits of Pods are measured against.
type Capacity struct {
	// Memory is the machine's, in bytes.
	Memory int64
	// HugePages are the sizes of large pages that can be limited here, in bytes.
	HugePages []int64
	// PodPIDs is the most processes and threads of one Pod; 0 and below is no limit.
	PodPIDs int64
}

// computeResources turns requests and limits into cgroup settings, as upstream:
// shares from the request (the limit where there is no request), quota and memory
// from the limits, of the Pod where the container has none.
func computeResources(pod *keelsonv1.Pod, c *corev1.Container, node Capacity) runtime.Resources {
	limits := containerLimits(&pod.Spec, c)
	r := runtime.Resources{
		CPUShares:   cgroups.Shares(requestedMilliCPU(c, limits)),
		MemoryLimit: limits.Memory().Value(),
		OOMScoreAdj: oomScoreAdj(pod, c, node.Memory),
		HugePages:   hugePages(limits, node.HugePages),
		Asked:       *c.Resources.DeepCopy(),
	}
	if milli := limits.Cpu().MilliValue(); milli > 0 {
		r.CPUPeriod, r.CPUQuota = quotaPeriod, cpuQuota(milli)
	}
	return r
}

// containerLimits are the container's own, and the Pod's for what it does not limit.
func containerLimits(pod *corev1.PodSpec, c *corev1.Container) corev1.ResourceList {
	limits := corev1.ResourceList{}
	if pod.Resources != nil {
		for name, quantity := range pod.Resources.Limits {
			limits[name] = quantity
		}
	}
	for name, quantity := range c.Resources.Limits {
		if _, whole := limits[name]; !whole || !quantity.IsZero() {
			limits[name] = quantity
		}
	}
	return limits
}

// podSettings are those of a Pod's own cgroup: a weight from all that it asks for, its
// overhead included, and limits where every container has one, or the Pod as a whole.
func podSettings(pod *keelsonv1.Pod, node Capacity) cgroups.Settings {
	upstream := pod.Upstream()
	requests := resource.PodRequests(upstream, resource.PodResourcesOptions{})
	limits := resource.PodLimits(upstream, resource.PodResourcesOptions{})
	s := cgroups.Settings{
		CPUShares: new(cgroups.Shares(requests.Cpu().MilliValue())),
		CPUQuota:  new(int64(cgroups.Unlimited)), CPUPeriod: quotaPeriod,
		Memory: new(int64(cgroups.Unlimited)), PIDs: new(int64(cgroups.Unlimited)),
		HugePages: hugePages(requests, node.HugePages),
	}
	class := qos.Class(&pod.Spec)
	if class != corev1.PodQOSBestEffort && limitsAll(&pod.Spec, corev1.ResourceCPU) {
		*s.CPUQuota = cpuQuota(limits.Cpu().MilliValue())
	}
	if class != corev1.PodQOSBestEffort && limitsAll(&pod.Spec, corev1.ResourceMemory) {
		*s.Memory = limits.Memory().Value()
	}
	if node.PodPIDs > 0 {
		*s.PIDs = node.PodPIDs
	}
	return s
}

// limitsAll says that what a Pod takes of a resource has an end.
func limitsAll(pod *corev1.PodSpec, name corev1.ResourceName) bool {
	if pod.Resources != nil {
		if whole := pod.Resources.Limits[name]; !whole.IsZero() {
			return true
		}
	}
	for _, list := range [][]corev1.Container{pod.InitContainers, pod.Containers} {
		for i := range list {
			if limit := list[i].Resources.Limits[name]; limit.IsZero() {
				return false
			}
		}
	}
	return true
}

func requestedMilliCPU(c *corev1.Container, limits corev1.ResourceList) int64 {
	if request, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		return request.MilliValue()
	}
	return limits.Cpu().MilliValue()
}

func cpuQuota(milli int64) int64 { return max(milli*quotaPeriod/milliPerCPU, minQuota) }

// hugePages limits every size of large pages that the machine counts, by the kernel's
// names; a size that is not in list is not for the Pod.
func hugePages(list corev1.ResourceList, sizes []int64) map[string]int64 {
	if len(sizes) == 0 {
		return nil
	}
	limits := make(map[string]int64, len(sizes))
	for _, size := range sizes {
		limit := list[cgroups.HugePageResource(size)]
		limits[cgroups.HugePageName(size)] = limit.Value()
	}
	return limits
}

// oomScoreAdj orders containers for the kernel's OOM killer: best effort first,
// guaranteed and node-critical last, burstable by how little of the memory they asked for.
func oomScoreAdj(pod *keelsonv1.Pod, c *corev1.Container, memoryCapacity int64) int {
	if pod.Spec.Priority != nil && *pod.Spec.Priority >= nodeCritical {
		return oomGuaranteed
	}
	switch qos.Class(&pod.Spec) {
	case corev1.PodQOSGuaranteed:
		return oomGuaranteed
	case corev1.PodQOSBestEffort:
		return oomBestEffort
	}
	if memoryCapacity <= 0 {
		return oomBestEffort - 1
	}
	asked := c.Resources.Requests.Memory().Value()
	if status.IsSidecar(c) {
		asked = max(asked, leastMemory(&pod.Spec)) // the Pod's own containers go first
	}
	asked += unassignedMemory(pod)
	score := int(oomBestEffort - oomBestEffort*asked/memoryCapacity)
	return min(max(score, oomBurstableLo), oomBestEffort-1)
}

// unassignedMemory is each container's part of what the Pod as a whole requests beyond
// its containers.
func unassignedMemory(pod *keelsonv1.Pod) int64 {
	if pod.Spec.Resources == nil || pod.Spec.Resources.Requests.Memory().IsZero() {
		return 0
	}
	assigned := resource.AggregateContainerRequests(pod.Upstream(), resource.PodResourcesOptions{})
	rest := pod.Spec.Resources.Requests.Memory().Value() - assigned.Memory().Value()
	return max(rest, 0) / int64(len(pod.Spec.Containers)+len(pod.Spec.InitContainers))
}

// leastMemory is the smallest request of the Pod's own containers.
func leastMemory(pod *corev1.PodSpec) int64 {
	least := pod.Containers[0].Resources.Requests.Memory().Value()
	for i := range pod.Containers {
		least = min(least, pod.Containers[i].Resources.Requests.Memory().Value())
	}
	return least
}
