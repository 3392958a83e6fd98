package endpoints

import (
	"context"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// endpointsHandler queues the Service of an Endpoints object that is, or was, ours:
// to repair it, to make it again, or to find at start that its Service is gone. A
// hand-made object may well exist before its Service; it is left alone.
func endpointsHandler() handler.EventHandler {
	add := func(q queue, obj client.Object) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if e.IsInInitialList && isManaged(e.Object.GetLabels()) {
				add(q, e.Object)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() &&
				(isManaged(e.ObjectOld.GetLabels()) || isManaged(e.ObjectNew.GetLabels())) {
				add(q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if isManaged(e.Object.GetLabels()) {
				add(q, e.Object)
			}
		},
	}
}
