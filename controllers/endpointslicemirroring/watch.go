package endpointslicemirroring

import (
	"context"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// mirrorIndex finds the mirrors of one Service.
const mirrorIndex = "endpointslicemirroring.service"

func serviceOfMirror(obj client.Object) []string {
	if !isMirror(obj) || obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName] == "" {
		return nil
	}
	return []string{obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName]}
}

func isMirror(obj client.Object) bool {
	return obj.GetLabels()[upstreamdiscoveryv1.LabelManagedBy] == ManagedBy
}

// wantsMirror is false for Endpoints that say so and for locks, which change all the time.
func wantsMirror(obj client.Object) bool {
	_, isLock := obj.GetAnnotations()[resourcelock.LeaderElectionRecordAnnotationKey]
	return obj.GetLabels()[upstreamdiscoveryv1.LabelSkipMirror] != "true" && !isLock
}

// mayMirror passes Endpoints that are to be mirrored, or were before a change.
func mayMirror() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc:  func(e event.UpdateEvent) bool { return wantsMirror(e.ObjectOld) || wantsMirror(e.ObjectNew) },
		CreateFunc:  func(e event.CreateEvent) bool { return wantsMirror(e.Object) },
		DeleteFunc:  func(e event.DeleteEvent) bool { return wantsMirror(e.Object) },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// selectorComesOrGoes passes Services without a selector that come or go, and those that
// are given one or lose it.
func selectorComesOrGoes() predicate.Predicate {
	bare := func(obj client.Object) bool {
		service, ok := obj.(*keelsonv1.Service)
		return ok && len(service.Spec.Selector) == 0
	}
	return predicate.Funcs{
		UpdateFunc:  func(e event.UpdateEvent) bool { return bare(e.ObjectOld) != bare(e.ObjectNew) },
		CreateFunc:  func(e event.CreateEvent) bool { return bare(e.Object) },
		DeleteFunc:  func(e event.DeleteEvent) bool { return bare(e.Object) },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// mirrorHandler queues the Endpoints of a slice that is, or was, a mirror.
func mirrorHandler() handler.EventHandler {
	requests := func(_ context.Context, obj client.Object) []reconcile.Request {
		if !isMirror(obj) {
			return nil
		}
		return []reconcile.Request{{NamespacedName: types.NamespacedName{
			Namespace: obj.GetNamespace(), Name: obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName],
		}}}
	}
	return handler.EnqueueRequestsFromMapFunc(requests)
}
