package resourcequota

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/quota"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// quotaChanged passes new limits, a use that somebody else has written, and reservations:
// of those whose object never comes, no other event tells.
func quotaChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, wasQuota := e.ObjectOld.(*keelsonv1.ResourceQuota)
		after, isQuota := e.ObjectNew.(*keelsonv1.ResourceQuota)
		return !wasQuota || !isQuota || before.Generation != after.Generation ||
			!equality.Semantic.DeepEqual(before.Status.Hard, after.Status.Hard) ||
			len(before.Status.Summary.Pending) == len(after.Status.Summary.Pending) && !equality.Semantic.DeepEqual(before.Status.Used, after.Status.Used) ||
			len(after.Status.Summary.Pending) > len(before.Status.Summary.Pending)
	}}
}

// markChanged passes Namespaces that lost or got the mark.
func markChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetLabels()[keelsonv1.QuotaLabel] != e.ObjectNew.GetLabels()[keelsonv1.QuotaLabel]
		},
	}
}

// useChanged passes what changes the use of an object.
func useChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		if (e.ObjectOld.GetDeletionTimestamp() == nil) != (e.ObjectNew.GetDeletionTimestamp() == nil) {
			return true
		}
		switch after := e.ObjectNew.(type) {
		case *keelsonv1.Pod:
			before, ok := e.ObjectOld.(*keelsonv1.Pod)
			return !ok || before.Status.Phase != after.Status.Phase || before.Generation != after.Generation ||
				!equality.Semantic.DeepEqual(resourcesOf(before), resourcesOf(after))
		case *keelsonv1.Service, *corev1.PersistentVolumeClaim:
			return e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectNew.GetGeneration() == 0
		}
		return false // only the number counts
	}}
}

// resourcesOf is what a resize changes in the status of a Pod.
func resourcesOf(pod *keelsonv1.Pod) []*corev1.ResourceRequirements {
	var all []*corev1.ResourceRequirements
	for i := range pod.Status.ContainerStatuses {
		all = append(all, pod.Status.ContainerStatuses[i].Resources)
	}
	return all
}

// quotasOf queues the quotas of an object's Namespace that limit its kind, after a
// moment in which more may come.
func quotasOf(reader client.Reader, kind schema.GroupResource) handler.EventHandler {
	add := func(ctx context.Context, obj client.Object, q queue) {
		for _, quotaOf := range listQuotas(ctx, reader, obj.GetNamespace()) {
			if limits(&quotaOf, kind) {
				q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&quotaOf)}, settle)
			}
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { add(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { add(ctx, e.ObjectNew, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, e.Object, q) },
	}
}

func quotasOfNamespace(reader client.Reader) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, obj client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, q := range listQuotas(ctx, reader, obj.GetName()) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&q)})
		}
		return requests
	})
}

func listQuotas(ctx context.Context, reader client.Reader, namespace string) []keelsonv1.ResourceQuota {
	var list keelsonv1.ResourceQuotaList
	err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the quotas of a namespace", "namespace", namespace)
	}
	return list.Items
}

func limits(q *keelsonv1.ResourceQuota, kind schema.GroupResource) bool {
	for name := range q.Spec.Hard {
		if k, ok := quota.Kind(name); ok && k == kind {
			return true
		}
	}
	return false
}
