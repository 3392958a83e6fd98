// Package podstatus answers the questions that several controllers ask about a Pod:
// is it active, ready, available? Every function is pure; there is nothing to
// recover after a crash.
package podstatus

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// IsFinished says whether every container of pod has ended for good.
func IsFinished(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsActive says whether pod counts as a replica: neither finished nor being deleted.
func IsActive(pod *keelsonv1.Pod) bool {
	return !IsFinished(pod) && pod.DeletionTimestamp == nil
}

// IsReady says whether the Ready condition of pod is true.
func IsReady(pod *keelsonv1.Pod) bool {
	_, ready := ReadySince(pod)
	return ready
}

// ReadySince returns when pod became ready. The time may be zero for a ready Pod
// whose condition carries none.
func ReadySince(pod *keelsonv1.Pod) (since time.Time, ready bool) {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady {
			return c.LastTransitionTime.Time, c.Status == corev1.ConditionTrue
		}
	}
	return time.Time{}, false
}

// AvailableAfter returns how long pod must stay ready, from now, to count as
// available: ready without a break for minReadySeconds. It is 0 for a Pod that is
// available already; ok is false for one that is not ready, or whose condition does
// not say since when.
func AvailableAfter(pod *keelsonv1.Pod, minReadySeconds int32, now time.Time) (wait time.Duration, ok bool) {
	since, ready := ReadySince(pod)
	if !ready {
		return 0, false
	}
	if minReadySeconds == 0 {
		return 0, true
	}
	if since.IsZero() {
		return 0, false
	}
	return max(0, since.Add(time.Duration(minReadySeconds)*time.Second).Sub(now)), true
}

// MaxRestarts returns how often the container of pod that restarted most has done so,
// and the sidecar that did: upstream compares these when it chooses Pods to delete.
func MaxRestarts(pod *keelsonv1.Pod) (containers, sidecars int32) {
	for i := range pod.Status.ContainerStatuses {
		containers = max(containers, pod.Status.ContainerStatuses[i].RestartCount)
	}
	for i := range pod.Status.InitContainerStatuses {
		status := &pod.Status.InitContainerStatuses[i]
		if IsSidecar(pod, status.Name) {
			sidecars = max(sidecars, status.RestartCount)
		}
	}
	return containers, sidecars
}

// IsSidecar says whether this init container of pod runs beside the others.
func IsSidecar(pod *keelsonv1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool {
		return c.Name == name && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
	})
}
