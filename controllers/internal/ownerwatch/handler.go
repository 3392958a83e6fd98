// Package ownerwatch maps events of dependents (Pods, ControllerRevisions) to the
// workloads that they concern: the one that controls a dependent, the one that did
// before, and for a dependent that nobody controls those that could adopt it.
//
// It reads caches only, never waits, and wakes nobody else. It keeps no memory: after
// a restart every workload is reconciled once anyway.
package ownerwatch

import (
	"context"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Options say whom to wake.
type Options struct {
	// Kind is the kind of the owners.
	Kind schema.GroupKind
	// Adopters returns the names of the owners in the dependent's namespace that could
	// adopt it.
	Adopters func(ctx context.Context, dependent client.Object) []string
	// Freed returns the names of further owners in the dependent's namespace that may
	// have waited for its end; nil means none.
	Freed func(ctx context.Context, dependent client.Object) []string
}

// Handler returns the event handler.
func Handler(o Options) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !o.addOwner(q, e.Object) && metav1.GetControllerOfNoCopy(e.Object) == nil {
				add(q, e.Object, o.Adopters(ctx, e.Object))
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
				return
			}
			before, after := metav1.GetControllerOfNoCopy(e.ObjectOld), metav1.GetControllerOfNoCopy(e.ObjectNew)
			if !sameOwner(before, after) {
				o.addOwner(q, e.ObjectOld)
			}
			o.addOwner(q, e.ObjectNew)
			relabelled := !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
			if after == nil && (relabelled || before != nil) {
				add(q, e.ObjectNew, o.Adopters(ctx, e.ObjectNew))
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			if !o.addOwner(q, e.Object) && o.Freed != nil {
				add(q, e.Object, o.Freed(ctx, e.Object))
			}
		},
	}
}

func (o Options) addOwner(q queue, dependent client.Object) bool {
	ref := metav1.GetControllerOfNoCopy(dependent)
	if ref == nil || !podcontrol.IsKind(ref, o.Kind) {
		return false
	}
	add(q, dependent, []string{ref.Name})
	return true
}

func add(q queue, dependent client.Object, names []string) {
	for _, name := range names {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: dependent.GetNamespace(), Name: name}})
	}
}

func sameOwner(a, b *metav1.OwnerReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID
}
