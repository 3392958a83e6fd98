package replication

import (
	"context"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownChanges passes what a reconciliation depends on: the spec, and the status, which
// is put right where somebody else has written it.
func ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, isRC := e.ObjectOld.(*keelsonv1.ReplicationController)
			after, stillRC := e.ObjectNew.(*keelsonv1.ReplicationController)
			return isRC && stillRC && !statusEqual(&before.Status, &after.Status)
		},
	})
}

// podHandler queues the ReplicationControllers that a change of a Pod concerns: the
// one that controls it, the one that did before, and for a Pod that nobody controls
// every one that could adopt it.
func podHandler(reader client.Reader) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !addOwner(q, e.Object) && metav1.GetControllerOfNoCopy(e.Object) == nil {
				addMatching(ctx, reader, q, e.Object.GetNamespace(), e.Object.GetLabels())
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
				return
			}
			before, after := metav1.GetControllerOfNoCopy(e.ObjectOld), metav1.GetControllerOfNoCopy(e.ObjectNew)
			if !sameOwner(before, after) {
				addOwner(q, e.ObjectOld)
			}
			addOwner(q, e.ObjectNew)
			relabelled := !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
			if after == nil && (relabelled || before != nil) {
				addMatching(ctx, reader, q, e.ObjectNew.GetNamespace(), e.ObjectNew.GetLabels())
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			addOwner(q, e.Object)
		},
	}
}

func addOwner(q queue, pod client.Object) bool {
	ref := metav1.GetControllerOfNoCopy(pod)
	if ref == nil || !podcontrol.IsKind(ref, kind.GroupKind()) {
		return false
	}
	q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: ref.Name}})
	return true
}

func addMatching(ctx context.Context, reader client.Reader, q queue, namespace string, podLabels map[string]string) {
	var list keelsonv1.ReplicationControllerList
	err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the ReplicationControllers of an orphan", "namespace", namespace)
		return
	}
	for i := range list.Items {
		rc := &list.Items[i]
		selector := labels.SelectorFromSet(selectorOf(rc))
		if !selector.Empty() && selector.Matches(labels.Set(podLabels)) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(rc)})
		}
	}
}

func sameOwner(a, b *metav1.OwnerReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID
}
