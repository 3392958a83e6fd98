package scheduler

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/queue"
)

// nodeChanges compares two versions of a Node. A heartbeat is no change.
func nodeChanges(before, after *keelsonv1.Node) plugins.EventKind {
	var changes plugins.EventKind
	if before.Spec.Unschedulable != after.Spec.Unschedulable || !equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) {
		changes |= plugins.NodeTaints
	}
	if !maps.Equal(before.Labels, after.Labels) {
		changes |= plugins.NodeLabels
	}
	if !maps.EqualFunc(before.Status.Allocatable, after.Status.Allocatable, sameQuantity) {
		changes |= plugins.NodeAllocatable
	}
	return changes
}

// sameImages tells whether the Node has the images that it had. They rank Nodes but help
// no Pod that waits.
func sameImages(before, after *keelsonv1.Node) bool {
	return equality.Semantic.DeepEqual(before.Status.Images, after.Status.Images)
}

// countsDifferently tells whether a bound Pod must be looked at again. Agents write
// status often: only a Pod that is news costs anything.
func countsDifferently(before, after *keelsonv1.Pod) bool {
	return queue.Changed(before, after) ||
		before.Spec.NodeName != after.Spec.NodeName ||
		(before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
		(before.Status.StartTime == nil) != (after.Status.StartTime == nil) ||
		disrupted(before) != disrupted(after) ||
		!sameUse(before, after)
}

// disrupted tells whether somebody makes the Pod go.
func disrupted(pod *keelsonv1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// sameUse tells whether containers have the resources that they had, as far as status
// says so.
func sameUse(before, after *keelsonv1.Pod) bool {
	if len(before.Status.ContainerStatuses) != len(after.Status.ContainerStatuses) {
		return len(before.Status.ContainerStatuses) == 0 // the first report of what the spec asks for
	}
	for i := range after.Status.ContainerStatuses {
		b, a := &before.Status.ContainerStatuses[i], &after.Status.ContainerStatuses[i]
		if !equality.Semantic.DeepEqual(b.AllocatedResources, a.AllocatedResources) || !equality.Semantic.DeepEqual(b.Resources, a.Resources) {
			return false
		}
	}
	return true
}

func sameQuantity(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }
