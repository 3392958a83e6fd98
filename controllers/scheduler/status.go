package scheduler

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// gatedMessage is what upstream's API server writes.
const gatedMessage = "Scheduling is blocked due to non-empty scheduling gates"

// waiting is what a Pod without a Node says about itself.
type waiting struct {
	reason, message string
	// nominate, if set, is the Node that it waits for; the empty string is none.
	nominate *string
}

// computeWaiting returns the Pod with the condition that says why it waits, and with its
// nomination; nil when it says so already.
func computeWaiting(pod *keelsonv1.Pod, w waiting, now metav1.Time) *keelsonv1.Pod {
	conditions, changed := withCondition(pod.Status.Conditions, corev1.PodCondition{
		Type:               corev1.PodScheduled,
		Status:             corev1.ConditionFalse,
		ObservedGeneration: pod.Generation,
		Reason:             w.reason,
		Message:            w.message,
		LastTransitionTime: now,
	})
	if w.nominate != nil && *w.nominate != pod.Status.NominatedNodeName {
		changed = true
	}
	if !changed {
		return nil
	}
	updated := pod.DeepCopy()
	updated.Status.Conditions = conditions
	if w.nominate != nil {
		updated.Status.NominatedNodeName = *w.nominate
	}
	updated.Status.Summary = summary.Pod(updated)
	return updated
}

// withCondition sets a condition and tells whether that changed anything.
func withCondition(all []corev1.PodCondition, wanted corev1.PodCondition) ([]corev1.PodCondition, bool) {
	conditions := slices.Clone(all)
	at := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == wanted.Type })
	if at < 0 {
		return append(conditions, wanted), true
	}
	present := conditions[at]
	if present.Status == wanted.Status {
		wanted.LastTransitionTime = present.LastTransitionTime
	}
	wanted.LastProbeTime = present.LastProbeTime
	conditions[at] = wanted
	return conditions, present != wanted
}

// computeDisrupted returns the victim with the condition that says that it goes for a
// more important one; nil when it says so already.
func computeDisrupted(victim *keelsonv1.Pod, schedulerName string, now metav1.Time) *keelsonv1.Pod {
	conditions, changed := withCondition(victim.Status.Conditions, corev1.PodCondition{
		Type:               corev1.DisruptionTarget,
		Status:             corev1.ConditionTrue,
		ObservedGeneration: victim.Generation,
		Reason:             corev1.PodReasonPreemptionByScheduler,
		Message:            schedulerName + ": preempting to accommodate a higher priority pod",
		LastTransitionTime: now,
	})
	if !changed {
		return nil
	}
	updated := victim.DeepCopy()
	updated.Status.Conditions = conditions
	updated.Status.Summary = summary.Pod(updated)
	return updated
}

// applyWaiting writes what a waiting Pod says about itself if it is news.
func (s *scheduler) applyWaiting(ctx context.Context, pod *keelsonv1.Pod, w waiting) error {
	updated := computeWaiting(pod, w, metav1.NewTime(s.clock.Now()))
	if updated == nil {
		return nil
	}
	if err := s.patchStatus(ctx, updated, pod); err != nil {
		return fmt.Errorf("write condition PodScheduled: %w", err)
	}
	return nil
}

// patchStatus fails when anybody wrote the Pod since base was read: conditions are
// replaced as a list.
func (s *scheduler) patchStatus(ctx context.Context, updated, base *keelsonv1.Pod) error {
	patch := client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})
	// This package never reads Pods through the client: nothing has to wait for this.
	return s.client.Status().Patch(ctx, updated, patch, client.DisableReadYourWritesConsistency)
}
