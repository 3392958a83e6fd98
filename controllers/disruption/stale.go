package disruption

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// staleTimeout is how long a Pod may be said to be disrupted and not be deleted;
// upstream's.
const staleTimeout = 2 * time.Minute

// staleReconciler takes back the condition DisruptionTarget of one Pod.
type staleReconciler struct {
	client client.Client
	clock  clock.PassiveClock
}

func addStale(mgr ctrl.Manager, c client.Client, now clock.PassiveClock) error {
	marked := predicate.NewPredicateFuncs(func(obj client.Object) bool {
		pod, ok := obj.(*keelsonv1.Pod)
		return ok && target(pod) != nil
	})
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name+"-stale").
		For(&keelsonv1.Pod{}, builder.WithPredicates(marked)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&staleReconciler{client: c, clock: now})
	if err != nil {
		return fmt.Errorf("failed to add controller %s-stale: %w", Name, err)
	}
	return nil
}

// target is the condition of a Pod that somebody meant to delete and that is still
// there, nil when there is none that could be stale: nodes take their time.
func target(pod *keelsonv1.Pod) *corev1.PodCondition {
	ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	if pod.DeletionTimestamp != nil || ended {
		return nil
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason != corev1.PodReasonTerminationByKubelet {
			return c
		}
	}
	return nil
}

// Reconcile implements reconcile.Reconciler.
func (r *staleReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &keelsonv1.Pod{}
	if err := r.client.Get(ctx, req.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	condition := target(pod)
	if condition == nil {
		return ctrl.Result{}, nil
	}
	if wait := staleTimeout - r.clock.Since(condition.LastTransitionTime.Time); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	before := pod.DeepCopy()
	*condition = corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, ObservedGeneration: condition.ObservedGeneration,
		LastTransitionTime: metav1.NewTime(r.clock.Now()),
	}
	// A list is replaced: insist on the version that was read.
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, pod, patch); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("take back the condition of a Pod that nobody deleted: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Took back the condition of a Pod that nobody deleted", "condition", corev1.DisruptionTarget)
	return ctrl.Result{}, nil
}
