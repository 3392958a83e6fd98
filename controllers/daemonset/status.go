package daemonset

import (
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// desired counts the nodes that should run a Pod.
func desired(places []place) int {
	n := 0
	for _, place := range places {
		if place.run {
			n++
		}
	}
	return n
}

// computeStatus returns the status for what was observed before the plan was executed,
// and how long it takes until the next ready Pod becomes available (0: no Pod will).
func computeStatus(ds *appsv1.DaemonSet, in input, collisionCount *int32) (appsv1.DaemonSetStatus, time.Duration) {
	status := *ds.Status.DeepCopy()
	status.ObservedGeneration = ds.Generation
	status.CollisionCount = collisionCount
	status.DesiredNumberScheduled = int32(desired(in.places))
	status.CurrentNumberScheduled, status.NumberMisscheduled, status.NumberReady = 0, 0, 0
	status.UpdatedNumberScheduled, status.NumberAvailable = 0, 0
	var next time.Duration
	for _, place := range in.places {
		switch {
		case !place.known || len(place.pods) == 0:
			continue
		case !place.run:
			status.NumberMisscheduled++
			continue
		}
		status.CurrentNumberScheduled++
		// The eldest speaks for the node.
		pod := place.pods[0]
		if in.latest(pod) {
			status.UpdatedNumberScheduled++
		}
		if podstatus.IsReady(pod) {
			status.NumberReady++
		}
		wait, ready := podstatus.AvailableAfter(pod, in.minReadySeconds, in.now)
		switch {
		case ready && wait == 0:
			status.NumberAvailable++
		case ready:
			next = sooner(next, wait)
		}
	}
	status.NumberUnavailable = status.DesiredNumberScheduled - status.NumberAvailable

	// The columns are those of the object as it will be.
	after := &appsv1.DaemonSet{ObjectMeta: ds.ObjectMeta, Spec: ds.Spec, Status: status}
	status.Summary = summary.DaemonSet(after)
	return status, next
}

func statusEqual(a, b *appsv1.DaemonSetStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
