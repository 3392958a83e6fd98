package lifecycle

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/apis/qos"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

const (
	minShares      = 2
	maxShares      = 262144
	sharesPerCPU   = 1024
	milliPerCPU    = 1000
	quotaPeriod    = 100_000 // microseconds
	minQuota       = 1_000   // microseconds; the kernel takes no less
	oomGuaranteed  = -997
	oomBestEffort  = 1000
	oomBurstableLo = 1000 + oomGuaranteed
)

// computeResources turns requests and limits into cgroup settings, as upstream:
// shares from the request (the limit where there is no request), quota and memory
// from the limits.
func computeResources(pod *corev1.PodSpec, c *corev1.Container, memoryCapacity int64) runtime.Resources {
	r := runtime.Resources{
		CPUShares:   cpuShares(requestedMilliCPU(c)),
		MemoryLimit: c.Resources.Limits.Memory().Value(),
		OOMScoreAdj: oomScoreAdj(pod, c, memoryCapacity),
	}
	if milli := c.Resources.Limits.Cpu().MilliValue(); milli > 0 {
		r.CPUPeriod = quotaPeriod
		r.CPUQuota = max(milli*quotaPeriod/milliPerCPU, minQuota)
	}
	return r
}

// podShares is the weight of a whole Pod against others: what it asks for while it runs,
// or while its greediest init container does beside the sidecars before it.
func podShares(pod *corev1.PodSpec) uint64 {
	var sidecars, most, milli int64
	for i := range pod.InitContainers {
		asked := requestedMilliCPU(&pod.InitContainers[i])
		if status.IsSidecar(&pod.InitContainers[i]) {
			sidecars += asked
			asked = 0
		}
		most = max(most, sidecars+asked)
	}
	for i := range pod.Containers {
		milli += requestedMilliCPU(&pod.Containers[i])
	}
	return cpuShares(max(most, sidecars+milli))
}

func requestedMilliCPU(c *corev1.Container) int64 {
	if request, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		return request.MilliValue()
	}
	return c.Resources.Limits.Cpu().MilliValue()
}

func cpuShares(milli int64) uint64 {
	return uint64(min(max(milli*sharesPerCPU/milliPerCPU, minShares), maxShares))
}

// oomScoreAdj orders containers for the kernel's OOM killer: best effort first,
// guaranteed last, burstable by how little of the memory they asked for.
func oomScoreAdj(pod *corev1.PodSpec, c *corev1.Container, memoryCapacity int64) int {
	switch qos.Class(pod) {
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
		asked = max(asked, leastMemory(pod)) // the Pod's own containers go first
	}
	score := int(oomBestEffort - oomBestEffort*asked/memoryCapacity)
	return min(max(score, oomBurstableLo), oomBestEffort-1)
}

// leastMemory is the smallest request of the Pod's own containers.
func leastMemory(pod *corev1.PodSpec) int64 {
	least := pod.Containers[0].Resources.Requests.Memory().Value()
	for i := range pod.Containers {
		least = min(least, pod.Containers[i].Resources.Requests.Memory().Value())
	}
	return least
}
