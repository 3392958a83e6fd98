package replication

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

// reasonInvalid is the reason of ReplicaFailure when the spec itself is the cause;
// upstream refuses such objects at admission.
const reasonInvalid = "InvalidSpec"

// computeStatus returns the status of rc for what was observed before the plan was
// executed, and for the failure of executing it.
func computeStatus(rc *keelsonv1.ReplicationController, counts replicas.Counts, plan *replicas.Plan, failure error, now time.Time) keelsonv1.ReplicationControllerStatus {
	status := *rc.Status.DeepCopy()
	sameSpec := status.ObservedGeneration == rc.Generation
	status.Replicas = counts.Replicas
	status.FullyLabeledReplicas = counts.FullyLabeled
	status.ReadyReplicas = counts.Ready
	status.AvailableReplicas = counts.Available
	status.ObservedGeneration = rc.Generation
	status.Conditions = setReplicaFailure(status.Conditions, plan, failure, sameSpec, now)

	// The columns are computed from the object as it will be, with the selector that
	// is in force: kubectl scale selects by it.
	after := &keelsonv1.ReplicationController{ObjectMeta: rc.ObjectMeta, Spec: rc.Spec, Status: status}
	after.Spec.Selector = selectorOf(rc)
	status.Summary = summary.ReplicationController(after)
	return status
}

// setReplicaFailure sets or removes the condition. As upstream, one that is there
// keeps its transition time.
func setReplicaFailure(conditions []corev1.ReplicationControllerCondition, plan *replicas.Plan, failure error, sameSpec bool, now time.Time) []corev1.ReplicationControllerCondition {
	at := slices.IndexFunc(conditions, func(c corev1.ReplicationControllerCondition) bool { return c.Type == replicaFailure })
	if failure == nil {
		if at < 0 {
			return conditions
		}
		return slices.Delete(conditions, at, at+1)
	}
	condition := corev1.ReplicationControllerCondition{
		Type:               replicaFailure,
		Status:             corev1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now.Truncate(time.Second)),
		Reason:             failureReason(plan),
		Message:            failure.Error(),
	}
	if at < 0 {
		return append(conditions, condition)
	}
	condition.LastTransitionTime = conditions[at].LastTransitionTime
	if sameSpec && conditions[at].Reason == condition.Reason {
		// Error texts of one cause differ (generated names, times): keep the first, so
		// that a failing owner does not write its status at every retry.
		condition.Message = conditions[at].Message
	}
	conditions[at] = condition
	return conditions
}

func failureReason(plan *replicas.Plan) string {
	switch {
	case plan.Create > 0:
		return podcontrol.ReasonFailedCreate
	case len(plan.Delete) > 0:
		return podcontrol.ReasonFailedDelete
	default:
		return reasonInvalid
	}
}

func statusEqual(a, b *keelsonv1.ReplicationControllerStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
