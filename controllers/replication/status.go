package replication

import (
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

// statusOf reads the status of rc in the engine's form.
func statusOf(rc *keelsonv1.ReplicationController) replicas.Status {
	status := replicas.Status{
		Replicas:             rc.Status.Replicas,
		FullyLabeledReplicas: rc.Status.FullyLabeledReplicas,
		ReadyReplicas:        rc.Status.ReadyReplicas,
		AvailableReplicas:    rc.Status.AvailableReplicas,
		ObservedGeneration:   rc.Status.ObservedGeneration,
	}
	for i := range rc.Status.Conditions {
		c := &rc.Status.Conditions[i]
		status.Conditions = append(status.Conditions, upstreamappsv1.ReplicaSetCondition{
			Type: upstreamappsv1.ReplicaSetConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message,
		})
	}
	return status
}

// setStatus writes status into rc, with its columns.
func setStatus(rc *keelsonv1.ReplicationController, status replicas.Status) {
	rc.Status.ReplicationControllerStatus = corev1.ReplicationControllerStatus{
		Replicas:             status.Replicas,
		FullyLabeledReplicas: status.FullyLabeledReplicas,
		ReadyReplicas:        status.ReadyReplicas,
		AvailableReplicas:    status.AvailableReplicas,
		ObservedGeneration:   status.ObservedGeneration,
	}
	for i := range status.Conditions {
		c := &status.Conditions[i]
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(c.Type), Status: c.Status, LastTransitionTime: c.LastTransitionTime,
			Reason: c.Reason, Message: c.Message,
		})
	}
	// The columns are computed from the object as it will be, with the selector that
	// is in force: kubectl scale selects by it.
	after := &keelsonv1.ReplicationController{ObjectMeta: rc.ObjectMeta, Spec: rc.Spec, Status: rc.Status}
	after.Spec.Selector = replicas.ReplicationControllerSelector(rc)
	rc.Status.Summary = summary.ReplicationController(after)
}

func sameStatus(a, b *keelsonv1.ReplicationController) bool {
	return equality.Semantic.DeepEqual(&a.Status, &b.Status)
}
