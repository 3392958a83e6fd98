package podgc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// outOfServiceReconciler looks at one Node that a person has given the taint
// node.kubernetes.io/out-of-service: its machine is off, nothing runs there any more.
type outOfServiceReconciler struct{ releaser }

func addOutOfService(mgr ctrl.Manager, r releaser) error {
	deletedHere := predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp() == nil && e.ObjectNew.GetDeletionTimestamp() != nil
		},
	}
	down := predicate.NewPredicateFuncs(func(o client.Object) bool {
		node, ok := o.(*keelsonv1.Node)
		return ok && isOutOfService(node)
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("podgc-out-of-service").
		For(&keelsonv1.Node{}, builder.WithPredicates(down)).
		Watches(&keelsonv1.Pod{}, handler.EnqueueRequestsFromMapFunc(toNode), builder.WithPredicates(deletedHere)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&outOfServiceReconciler{releaser: r})
}

// isOutOfService says whether a person has declared it so, and the agent does not say
// otherwise.
func isOutOfService(node *keelsonv1.Node) bool {
	ready := slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
	return !ready && slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// Reconcile releases the Node's Pods that are being deleted.
func (r *outOfServiceReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	node := &keelsonv1.Node{}
	if err := r.client.Get(ctx, request.NamespacedName, node); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !isOutOfService(node) {
		return ctrl.Result{}, nil
	}
	pods := &keelsonv1.PodList{}
	if err := r.client.List(ctx, pods, client.MatchingFields{byNode: node.Name}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list Pods of node %s: %w", node.Name, err)
	}
	var failed error
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp != nil {
			failed = errors.Join(failed, r.release(ctx, &pods.Items[i], outOfService))
		}
	}
	return ctrl.Result{}, failed
}
