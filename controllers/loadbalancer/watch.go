package loadbalancer

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
)

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, Name), o)
	var changes predicate.Predicate = predicate.ResourceVersionChangedPredicate{}
	if o.Pool == nil {
		changes = predicate.GenerationChangedPredicate{} // nothing is written, so nothing but the spec matters
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Service{}, builder.WithPredicates(changes)).
		WithOptions(controller.Options{
			// One worker: two could give away the same address.
			MaxConcurrentReconciles: 1,
			RateLimiter:             backoff.RateLimiter(),
		})
	if o.Pool != nil {
		b = b.Watches(&keelsonv1.Service{}, handler.EnqueueRequestsFromMapFunc(r.waiting), builder.WithPredicates(freesAddress())).
			Watches(&keelsonv1.Node{}, handler.EnqueueRequestsFromMapFunc(r.all), builder.WithPredicates(movesNode()))
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// freesAddress passes what may end the waiting of other Services.
func freesAddress() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, is := e.ObjectOld.(*keelsonv1.Service), e.ObjectNew.(*keelsonv1.Service)
			still := heldBy(is)
			for _, addr := range heldBy(was) {
				if !slices.Contains(still, addr) {
					return true
				}
			}
			return false
		},
		DeleteFunc:  func(e event.DeleteEvent) bool { return len(heldBy(e.Object.(*keelsonv1.Service))) > 0 },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// movesNode passes Nodes that take an address or leave one.
func movesNode() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			was, is := e.ObjectOld.(*keelsonv1.Node), e.ObjectNew.(*keelsonv1.Node)
			return !equality.Semantic.DeepEqual(was.Status.Addresses, is.Status.Addresses)
		},
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// waiting returns the Services whose wish is not fulfilled.
func (r *Reconciler) waiting(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.requests(ctx, func(s *keelsonv1.Service) bool {
		c := conditionOf(s)
		return c != nil && c.Reason != ReasonAllocated
	})
}

// all returns all Services that are ours.
func (r *Reconciler) all(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.requests(ctx, func(*keelsonv1.Service) bool { return true })
}

func (r *Reconciler) requests(ctx context.Context, want func(*keelsonv1.Service) bool) []reconcile.Request {
	var services keelsonv1.ServiceList
	if err := r.client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot list the Services that wait for an address")
		return nil
	}
	var requests []reconcile.Request
	for i := range services.Items {
		if s := &services.Items[i]; isOurs(s) && want(s) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(s)})
		}
	}
	return requests
}
