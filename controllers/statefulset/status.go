package statefulset

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// computeStatus returns the status for what was observed, less the Pods that the plan
// updates, and how long it takes until the next ready Pod becomes available (0: none
// will).
func computeStatus(s *scope) (appsv1.StatefulSetStatus, time.Duration) {
	status := *s.set.Status.DeepCopy()
	status.ObservedGeneration = s.set.Generation
	status.CurrentRevision, status.UpdateRevision = s.names.current, s.names.update
	status.Replicas, status.ReadyReplicas, status.AvailableReplicas = 0, 0, 0
	status.CurrentReplicas, status.UpdatedReplicas = 0, 0
	if s.history != nil {
		status.CollisionCount = s.history.CollisionCount
	}
	if status.CollisionCount == nil {
		status.CollisionCount = new(int32)
	}
	var next time.Duration
	for _, pod := range s.pods {
		status.Replicas++
		if runningAndReady(pod) {
			status.ReadyReplicas++
			wait, known := podstatus.AvailableAfter(pod, s.spec.minReadySeconds, s.now)
			switch {
			case !known:
				// Ready, but nobody knows since when.
			case wait == 0:
				status.AvailableReplicas++
			case next == 0 || wait < next:
				next = wait
			}
		}
		if pod.DeletionTimestamp != nil || slices.Contains(s.plan.updated, pod) {
			continue
		}
		switch revision := revisionOf(pod); {
		case revision == s.names.current && revision == s.names.update:
			status.CurrentReplicas++
			status.UpdatedReplicas++
		case revision == s.names.current:
			status.CurrentReplicas++
		case revision == s.names.update:
			status.UpdatedReplicas++
		}
	}
	completeUpdate(&status, int32(s.spec.replicas))

	// The columns are those of the object as it will be.
	after := &appsv1.StatefulSet{ObjectMeta: s.set.ObjectMeta, Spec: s.set.Spec, Status: status}
	status.Summary = summary.StatefulSet(after)
	return status, next
}

// completeUpdate makes the update revision the current one when every Pod has it and
// is ready.
func completeUpdate(status *appsv1.StatefulSetStatus, replicas int32) {
	if status.UpdatedReplicas == replicas && status.ReadyReplicas == replicas && status.Replicas == replicas {
		status.CurrentReplicas = status.UpdatedReplicas
		status.CurrentRevision = status.UpdateRevision
	}
}

func statusEqual(a, b *appsv1.StatefulSetStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
