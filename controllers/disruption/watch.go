package disruption

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// budgetsOfPod queues the budgets that a Pod concerns when it comes, goes, or changes in
// what they count.
func budgetsOfPod(reader client.Reader) handler.EventHandler {
	add := func(ctx context.Context, obj client.Object, q queue) {
		addMatching(ctx, reader, q, obj.GetNamespace(), obj.GetLabels())
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { add(ctx, e.Object, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, wasPod := e.ObjectOld.(*keelsonv1.Pod)
			after, isPod := e.ObjectNew.(*keelsonv1.Pod)
			if !wasPod || !isPod {
				return
			}
			relabelled := !labels.Equals(before.Labels, after.Labels)
			if relabelled {
				add(ctx, before, q)
			}
			if relabelled || podstatus.IsReady(before) != podstatus.IsReady(after) || (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
				before.Status.Phase != after.Status.Phase || ownerOf(before) != ownerOf(after) {
				add(ctx, after, q)
			}
		},
	}
}

func ownerOf(obj client.Object) string {
	if owner := metav1.GetControllerOfNoCopy(obj); owner != nil {
		return string(owner.UID)
	}
	return ""
}

// budgetsOfOwner queues the budgets of the Pods that an owner makes, when it wants
// another number of them.
func budgetsOfOwner(reader client.Reader) handler.EventHandler {
	return handler.Funcs{UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
		if template, ok := templateLabels(e.ObjectNew); ok {
			addMatching(ctx, reader, q, e.ObjectNew.GetNamespace(), template)
		}
	}}
}

func templateLabels(obj client.Object) (map[string]string, bool) {
	switch owner := obj.(type) {
	case *keelsonv1.ReplicationController:
		if owner.Spec.Template == nil {
			return nil, false
		}
		return owner.Spec.Template.Labels, true
	case *appsv1.ReplicaSet:
		return owner.Spec.Template.Labels, true
	case *appsv1.Deployment:
		return owner.Spec.Template.Labels, true
	case *appsv1.StatefulSet:
		return owner.Spec.Template.Labels, true
	}
	return nil, false
}

func addMatching(ctx context.Context, reader client.Reader, q queue, namespace string, of map[string]string) {
	var list policyv1.PodDisruptionBudgetList
	err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the disruption budgets of a Pod", "namespace", namespace)
		return
	}
	for i := range list.Items {
		selector, err := metav1.LabelSelectorAsSelector(list.Items[i].Spec.Selector)
		if err == nil && selector.Matches(labels.Set(of)) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
}
