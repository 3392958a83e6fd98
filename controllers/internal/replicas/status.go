package replicas

import (
	"slices"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

const (
	// ReplicaFailure is the condition of an owner whose count could not be reached. The
	// name is upstream's, and the same for every kind.
	ReplicaFailure = upstreamappsv1.ReplicaSetReplicaFailure

	// SelectorShared is the condition of an owner whose selector another ReplicationController
	// or ReplicaSet of the namespace has, too. It is Keelson's own.
	SelectorShared upstreamappsv1.ReplicaSetConditionType = "SelectorShared"

	// reasonInvalid is the reason of ReplicaFailure when the spec itself is the cause;
	// upstream refuses such objects at admission.
	reasonInvalid = "InvalidSpec"
	// reasonShared is the reason of SelectorShared and of its event.
	reasonShared = "SelectorShared"
)

// statusInput is everything that a status depends on.
type statusInput struct {
	// Had is the status of the object that was read.
	Had        Status
	Generation int64
	// Counts are of what was observed before the plan was executed.
	Counts Counts
	Plan   *Plan
	// Failure is that of executing the plan, or says why there is none.
	Failure error
	// Rivals are the names of other owners with the same selector.
	Rivals []string
	Now    time.Time
}

// computeStatus returns the next status. Conditions that others wrote stay.
func computeStatus(in statusInput) Status {
	status := *in.Had.DeepCopy()
	sameSpec := status.ObservedGeneration == in.Generation
	status.Replicas = in.Counts.Replicas
	status.FullyLabeledReplicas = in.Counts.FullyLabeled
	status.ReadyReplicas = in.Counts.Ready
	status.AvailableReplicas = in.Counts.Available
	status.ObservedGeneration = in.Generation

	status.Conditions = without(status.Conditions, in.Failure == nil, ReplicaFailure)
	if in.Failure != nil {
		status.Conditions = with(status.Conditions, sameSpec, in.Now, upstreamappsv1.ReplicaSetCondition{
			Type: ReplicaFailure, Reason: failureReason(in.Plan), Message: in.Failure.Error(),
		})
	}
	status.Conditions = without(status.Conditions, len(in.Rivals) == 0, SelectorShared)
	if len(in.Rivals) > 0 {
		status.Conditions = with(status.Conditions, false, in.Now, upstreamappsv1.ReplicaSetCondition{
			Type: SelectorShared, Reason: reasonShared, Message: sharedMessage(in.Rivals),
		})
	}
	return status
}

func without(conditions []upstreamappsv1.ReplicaSetCondition, gone bool, t upstreamappsv1.ReplicaSetConditionType) []upstreamappsv1.ReplicaSetCondition {
	if !gone {
		return conditions
	}
	return slices.DeleteFunc(conditions, func(c upstreamappsv1.ReplicaSetCondition) bool { return c.Type == t })
}

// with adds a condition that is true, or changes the one that is there. As upstream, that
// one keeps its transition time.
//
// keepMessage is for error texts: those of one cause differ (generated names, times), and
// a failing owner must not write its status at every retry.
func with(conditions []upstreamappsv1.ReplicaSetCondition, keepMessage bool, now time.Time, c upstreamappsv1.ReplicaSetCondition) []upstreamappsv1.ReplicaSetCondition {
	c.Status = corev1.ConditionTrue
	c.LastTransitionTime = metav1.NewTime(now.Truncate(time.Second))
	at := slices.IndexFunc(conditions, func(had upstreamappsv1.ReplicaSetCondition) bool { return had.Type == c.Type })
	if at < 0 {
		return append(conditions, c)
	}
	c.LastTransitionTime = conditions[at].LastTransitionTime
	if keepMessage && conditions[at].Reason == c.Reason {
		c.Message = conditions[at].Message
	}
	conditions[at] = c
	return conditions
}

func failureReason(plan *Plan) string {
	switch {
	case plan.Create > 0:
		return podcontrol.ReasonFailedCreate
	case len(plan.Delete) > 0:
		return podcontrol.ReasonFailedDelete
	default:
		return reasonInvalid
	}
}
