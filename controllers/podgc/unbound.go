package podgc

import (
	"context"
	"slices"

	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// unboundReconciler looks at one deleted Pod that was never bound. It can have our
// finalizer all the same: from a manifest, or because somebody added it.
type unboundReconciler struct {
	releaser
}

func addUnbound(mgr ctrl.Manager, r releaser) error {
	stuck := predicate.NewPredicateFuncs(func(o client.Object) bool {
		pod, ok := o.(*keelsonv1.Pod)
		return ok && neverEnds(pod)
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("podgc-unbound").
		For(&keelsonv1.Pod{}, builder.WithPredicates(stuck)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&unboundReconciler{releaser: r})
}

// neverEnds tells whether the Pod waits for an agent that it never had. It will not
// get one: the scheduler's binding fails on a Pod that was deleted since it was read.
func neverEnds(pod *keelsonv1.Pod) bool {
	return pod.DeletionTimestamp != nil && pod.Spec.NodeName == "" && slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer)
}

// Reconcile lets the Pod go.
func (r *unboundReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	pod := &keelsonv1.Pod{}
	if err := r.live.Get(ctx, request.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !neverEnds(pod) {
		return ctrl.Result{}, nil
	}
	if err := r.dropFinalizer(ctx, pod); err != nil {
		return ctrl.Result{}, err
	}
	klog.FromContext(ctx).Info("Released a deleted Pod that was never bound", "pod", klog.KObj(pod))
	return ctrl.Result{}, nil
}
