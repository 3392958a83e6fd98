package podautoscaler

import (
	"context"
	"fmt"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/apis/summary"
)

// set writes a condition; its transition time changes with its status alone.
func (s *scope) set(kind upstreamautoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, f finding) {
	condition := conditionOf(s.status.Conditions, kind)
	if condition == nil {
		s.status.Conditions = append(s.status.Conditions, upstreamautoscalingv2.HorizontalPodAutoscalerCondition{Type: kind})
		condition = &s.status.Conditions[len(s.status.Conditions)-1]
	}
	if condition.Status != status {
		condition.LastTransitionTime = metav1.NewTime(s.now)
	}
	condition.Status, condition.Reason, condition.Message = status, f.reason, f.message
}

func conditionOf(conditions []upstreamautoscalingv2.HorizontalPodAutoscalerCondition, kind upstreamautoscalingv2.HorizontalPodAutoscalerConditionType) *upstreamautoscalingv2.HorizontalPodAutoscalerCondition {
	for i := range conditions {
		if conditions[i].Type == kind {
			return &conditions[i]
		}
	}
	return nil
}

func status(is bool) corev1.ConditionStatus {
	if is {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// rescaled writes that the scale was written. ScaledToZero is what lets the autoscaler,
// and none after somebody else, scale up again.
func (s *scope) rescaled(from, to int32) {
	s.status.DesiredReplicas = to
	s.status.LastScaleTime = new(metav1.NewTime(s.now))
	s.set(upstreamautoscalingv2.AbleToScale, corev1.ConditionTrue, finding{"SucceededRescale", fmt.Sprintf("the HPA controller was able to update the target scale to %d", to)})
	if from > 0 && to == 0 && *s.spec.MinReplicas == 0 && knowsWithoutPods(s.spec) {
		s.set(upstreamautoscalingv2.ScaledToZero, corev1.ConditionTrue, finding{"ScaledToZero", "the HPA controller scaled the workload to zero"})
	} else {
		s.set(upstreamautoscalingv2.ScaledToZero, corev1.ConditionFalse, finding{"NotScaledToZero", "the HPA controller did not scale the workload to zero"})
	}
}

// writeStatus writes what changed. Nobody else writes the status, and the next look
// writes it again if somebody did.
func (r *Reconciler) writeStatus(ctx context.Context, s *scope) error {
	updated := s.hpa.DeepCopy()
	updated.Status.HorizontalPodAutoscalerStatus = *s.status
	updated.Status.Summary = summary.HorizontalPodAutoscaler(updated)
	if equality.Semantic.DeepEqual(&s.hpa.Status, &updated.Status) {
		return nil
	}
	if err := r.client.Status().Patch(ctx, updated, client.MergeFrom(s.hpa)); client.IgnoreNotFound(err) != nil {
		recordFailed(r.recorder, s.hpa, "FailedUpdateStatus", err.Error())
		return fmt.Errorf("failed to update status for %s: %w", s.hpa.Name, err)
	}
	return nil
}
