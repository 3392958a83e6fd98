package scheduler

import (
	"maps"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// change is a set of things that happened and that may make a waiting Pod fit.
type change uint8

const (
	nodeAdded change = 1 << iota
	// nodeSpecChanged: taints or cordon.
	nodeSpecChanged
	nodeLabelsChanged
	nodeCapacityChanged
	// podGone: a bound Pod ended or was deleted.
	podGone
)

// nodeChanges compares two versions of a Node. A heartbeat is no change.
func nodeChanges(before, after *keelsonv1.Node) change {
	var changes change
	if before.Spec.Unschedulable != after.Spec.Unschedulable || !equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints) {
		changes |= nodeSpecChanged
	}
	if !maps.Equal(before.Labels, after.Labels) {
		changes |= nodeLabelsChanged
	}
	if !maps.EqualFunc(before.Status.Allocatable, after.Status.Allocatable, sameQuantity) {
		changes |= nodeCapacityChanged
	}
	return changes
}

// specChanged tells whether anything changed that placing the Pod depends on.
func specChanged(before, after *keelsonv1.Pod) bool {
	return before.UID != after.UID || before.Generation != after.Generation
}

func sameQuantity(a, b resource.Quantity) bool { return a.Cmp(b) == 0 }
