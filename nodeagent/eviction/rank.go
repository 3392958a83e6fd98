package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"
	schedulinghelpers "k8s.io/component-helpers/scheduling/corev1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Usage is what a Pod uses.
type Usage struct {
	// Memory is the working set in bytes; Processes counts threads, too.
	Memory, Processes int64
	// Containers are those that run; a container's disk is its writable layer and logs.
	Containers []ContainerUsage
	// Volumes are those on this node's disk, by name.
	Volumes map[string]runtime.DiskUsage
}

// ContainerUsage is what one container uses.
type ContainerUsage struct {
	Name         string
	Memory       int64
	Rootfs, Logs runtime.DiskUsage
}

// Candidate is a Pod that may be ended.
type Candidate struct {
	Pod *keelsonv1.Pod
	// Usage is nil when it could not be measured: such a Pod goes first, as upstream.
	Usage *Usage
}

// area is a part of what a Pod has on disk.
type area int

const (
	areaRootfs area = 1 << iota
	areaLogs
	areaVolumes
)

// areasOf says which parts lie on the file system of a signal.
func areasOf(s Signal, dedicatedImageFs bool) area {
	switch {
	case !dedicatedImageFs:
		return areaRootfs | areaLogs | areaVolumes
	case s == ImageFsAvailable || s == ImageFsInodesFree:
		return areaRootfs
	default:
		return areaLogs | areaVolumes
	}
}

// rank puts the Pods first that are to be ended first when s is short, in upstream's
// order (pkg/kubelet/eviction/helpers.go): those that use more than they asked for, the
// less important ones, those that use most beyond their requests. Equal ones keep their
// order.
func rank(pods []Candidate, s Signal, dedicatedImageFs bool) {
	short := resourceOf(s)
	amounts := make(map[*keelsonv1.Pod]amount, len(pods))
	for _, c := range pods {
		amounts[c.Pod] = measure(c, short, areasOf(s, dedicatedImageFs))
	}
	slices.SortStableFunc(pods, func(a, b Candidate) int {
		x, y := amounts[a.Pod], amounts[b.Pod]
		if short != resourcePids {
			if c := cmp.Or(trueFirst(x.unknown, y.unknown), trueFirst(x.exceeds, y.exceeds)); c != 0 {
				return c
			}
		}
		return cmp.Or(cmp.Compare(priority(a.Pod), priority(b.Pod)), trueFirst(x.unknown, y.unknown), cmp.Compare(y.beyond, x.beyond))
	})
}

// amount is what a Pod uses of something.
type amount struct {
	unknown, exceeds bool
	// beyond is how much more it uses than it asked for; negative for less.
	beyond int64
}

func measure(c Candidate, short corev1.ResourceName, areas area) amount {
	if c.Usage == nil {
		return amount{unknown: true}
	}
	requests := resource.PodRequests(c.Pod.Upstream(), resource.PodResourcesOptions{})
	asked := func(name corev1.ResourceName) int64 {
		q := requests[name]
		return q.Value()
	}
	disk := c.Usage.disk(areas)
	switch short {
	case corev1.ResourceMemory:
		beyond := c.Usage.Memory - asked(corev1.ResourceMemory)
		return amount{exceeds: beyond > 0, beyond: beyond}
	case corev1.ResourceEphemeralStorage:
		beyond := disk.Bytes - asked(corev1.ResourceEphemeralStorage)
		return amount{exceeds: beyond > 0, beyond: beyond}
	case resourceInodes:
		return amount{exceeds: disk.Inodes > 0, beyond: disk.Inodes}
	default:
		return amount{beyond: c.Usage.Processes}
	}
}

// disk is what the Pod has on disk in the given areas.
func (u *Usage) disk(areas area) runtime.DiskUsage {
	var sum runtime.DiskUsage
	add := func(d runtime.DiskUsage) { sum.Bytes, sum.Inodes = sum.Bytes+d.Bytes, sum.Inodes+d.Inodes }
	for _, c := range u.Containers {
		if areas&areaRootfs != 0 {
			add(c.Rootfs)
		}
		if areas&areaLogs != 0 {
			add(c.Logs)
		}
	}
	if areas&areaVolumes != 0 {
		for _, v := range u.Volumes {
			add(v)
		}
	}
	return sum
}

func priority(pod *keelsonv1.Pod) int32 { return schedulinghelpers.PodPriority(pod.Upstream()) }

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}
