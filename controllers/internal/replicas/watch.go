package replicas

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/keelson-dev/keelson/controllers/internal/ownerwatch"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownChanges passes what a reconciliation depends on: the spec, and the status, which
// is put right where somebody else has written it.
func (k Kind[T]) ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, known := e.ObjectOld.(T)
			after, still := e.ObjectNew.(T)
			return known && still && !k.SameStatus(before, after)
		},
	})
}

// rivalHandler queues the owners whose selector the changed one, of whatever kind, has or
// had: the condition that says so is theirs as well.
func (k Kind[T]) rivalHandler(reader client.Reader) handler.EventHandler {
	add := func(ctx context.Context, q queue, obj client.Object) {
		names, err := k.listSharing(ctx, reader, k.NewList(), obj)
		if err != nil {
			// The cache answers from memory; it fails only while the manager stops.
			klog.FromContext(ctx).Error(err, "Failed to find owners with the same selector", "object", klog.KObj(obj))
			return
		}
		for _, name := range names {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}})
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { add(ctx, q, e.Object) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if !slices.Equal(selectorKeys(e.ObjectOld), selectorKeys(e.ObjectNew)) {
				add(ctx, q, e.ObjectOld)
				add(ctx, q, e.ObjectNew)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, q, e.Object) },
	}
}

// podHandler queues the owners that a change of a Pod concerns.
func (k Kind[T]) podHandler(reader client.Reader) handler.EventHandler {
	return ownerwatch.Handler(ownerwatch.Options{
		Kind: k.GroupVersionKind.GroupKind(),
		Adopters: func(ctx context.Context, pod client.Object) []string {
			names, err := k.adopters(ctx, reader, pod)
			if err != nil {
				// The cache answers from memory; it fails only while the manager stops.
				klog.FromContext(ctx).Error(err, "Failed to find who could adopt a Pod", "kind", k.GroupVersionKind.Kind, "pod", klog.KObj(pod))
			}
			return names
		},
	})
}

// adopters returns the owners whose selector pod matches.
func (k Kind[T]) adopters(ctx context.Context, reader client.Reader, pod client.Object) ([]string, error) {
	list := k.NewList()
	err := reader.List(ctx, list, client.InNamespace(pod.GetNamespace()), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		return nil, err
	}
	var names []string
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if object, ok := item.(T); ok && k.Owner(object).matches(pod.GetLabels()) {
			names = append(names, object.GetName())
		}
		return nil
	})
	return names, err
}

func (o Owner) matches(podLabels map[string]string) bool {
	return o.Invalid == nil && o.Selector != nil && !o.Selector.Empty() && o.Selector.Matches(labels.Set(podLabels))
}
