package daemonset

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/ownerwatch"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownChanges passes what a reconciliation depends on: the spec, and the status, which
// is put right where somebody else has written it.
func ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, isDS := e.ObjectOld.(*appsv1.DaemonSet)
			after, stillDS := e.ObjectNew.(*appsv1.DaemonSet)
			return isDS && stillDS && !statusEqual(&before.Status, &after.Status)
		},
	})
}

// watches maps events of other objects to DaemonSets. It reads the cache only.
type watches struct{ reader client.Reader }

// dependents is for Pods and ControllerRevisions.
func (w watches) dependents() handler.EventHandler {
	return ownerwatch.Handler(ownerwatch.Options{Kind: kind.GroupKind(), Adopters: w.adopters})
}

func (w watches) adopters(ctx context.Context, dependent client.Object) []string {
	if len(dependent.GetLabels()) == 0 {
		return nil
	}
	var names []string
	w.each(ctx, func(ds *appsv1.DaemonSet) {
		selector, problem := selectorOf(ds)
		if problem == nil && selector.Matches(labels.Set(dependent.GetLabels())) {
			names = append(names, ds.Name)
		}
	}, client.InNamespace(dependent.GetNamespace()))
	return names
}

// nodes wakes the DaemonSets for which a change of a Node makes a difference: those
// that should run a Pod on it, or may keep one, and could or could not before.
func (w watches) nodes() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			w.addWhere(ctx, q, nil, e.Object)
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if !sameForDaemons(e.ObjectOld, e.ObjectNew) {
				w.addWhere(ctx, q, e.ObjectOld, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			w.addWhere(ctx, q, e.Object, nil)
		},
	}
}

// sameForDaemons spares the heartbeats of nodes a look at every DaemonSet.
func sameForDaemons(before, after client.Object) bool {
	old, wasNode := before.(*keelsonv1.Node)
	node, isNode := after.(*keelsonv1.Node)
	return wasNode && isNode &&
		equality.Semantic.DeepEqual(old.Labels, node.Labels) && equality.Semantic.DeepEqual(old.Spec.Taints, node.Spec.Taints)
}

// addWhere queues the DaemonSets that judge two states of a Node differently; nil is a
// Node that does not exist.
func (w watches) addWhere(ctx context.Context, q queue, before, after client.Object) {
	w.each(ctx, func(ds *appsv1.DaemonSet) {
		e := eligibilityOf(&ds.Spec)
		if judge(e, before) != judge(e, after) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(ds)})
		}
	})
}

type judgement struct{ run, stay bool }

func judge(e eligibility, object client.Object) judgement {
	node, ok := object.(*keelsonv1.Node)
	if !ok {
		return judgement{}
	}
	run, stay := e.of(node)
	return judgement{run, stay}
}

func (w watches) each(ctx context.Context, visit func(*appsv1.DaemonSet), options ...client.ListOption) {
	var list appsv1.DaemonSetList
	err := w.reader.List(ctx, &list, append(options, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)...)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the DaemonSets that an event concerns")
		return
	}
	for i := range list.Items {
		visit(&list.Items[i])
	}
}
