package eviction

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// What the metric of evictions calls limits of a Pod's own, as upstream.
const (
	limitEmptyDir  = "emptydirfs.limit"
	limitPod       = "ephemeralpodfs.limit"
	limitContainer = "ephemeralcontainerfs.limit"
)

// HasLimits says that something of the Pod on disk has a limit, so that it has to be
// measured.
func HasLimits(pod *keelsonv1.Pod) bool {
	if _, ok := podLimit(pod); ok {
		return true
	}
	for _, list := range [][]corev1.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for i := range list {
			if !list[i].Resources.Limits.StorageEphemeral().IsZero() {
				return true
			}
		}
	}
	for i := range pod.Spec.Volumes {
		if _, ok := volumeLimit(&pod.Spec.Volumes[i]); ok {
			return true
		}
	}
	return false
}

// podLimit is what all containers of the Pod may have on disk together, as upstream: the
// sum of the limits that there are; false when there is none.
func podLimit(pod *keelsonv1.Pod) (limit corev1.ResourceList, ok bool) {
	limits := resource.PodLimits(pod.Upstream(), resource.PodResourcesOptions{})
	_, ok = limits[corev1.ResourceEphemeralStorage]
	return limits, ok
}

func volumeLimit(v *corev1.Volume) (text string, ok bool) {
	e := v.EmptyDir
	if e == nil || e.Medium != corev1.StorageMediumDefault || e.SizeLimit == nil || e.SizeLimit.Sign() != 1 {
		return "", false // the kernel holds a volume in memory to its size
	}
	return e.SizeLimit.String(), true
}

// overLimit says, in upstream's words, which limit of its own the Pod has grown beyond;
// kind is empty when none.
func overLimit(pod *keelsonv1.Pod, used *Usage, dedicatedImageFs bool) (kind, message string) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		text, limited := volumeLimit(v)
		if limited && used.Volumes[v.Name].Bytes > v.EmptyDir.SizeLimit.Value() {
			return limitEmptyDir, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, text)
		}
	}
	if limits, ok := podLimit(pod); ok {
		limit := limits[corev1.ResourceEphemeralStorage]
		if used.disk(areaRootfs|areaLogs|areaVolumes).Bytes > limit.Value() {
			return limitPod, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
		}
	}
	for _, c := range used.Containers {
		spec := containerOf(pod, c.Name)
		if spec == nil {
			continue
		}
		bytes := c.Logs.Bytes
		if !dedicatedImageFs {
			bytes += c.Rootfs.Bytes
		}
		if limit := spec.Resources.Limits.StorageEphemeral(); !limit.IsZero() && bytes > limit.Value() {
			return limitContainer, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", c.Name, limit.String())
		}
	}
	return "", ""
}
