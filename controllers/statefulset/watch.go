package statefulset

import (
	"context"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/ownerwatch"
)

// ownChanges passes what a reconciliation depends on: the spec, and the status, which
// is put right where somebody else has written it.
func ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, isSet := e.ObjectOld.(*appsv1.StatefulSet)
			after, stillSet := e.ObjectNew.(*appsv1.StatefulSet)
			return isSet && stillSet && !statusEqual(&before.Status, &after.Status)
		},
	})
}

// watches maps events of other objects to StatefulSets. It reads the cache only.
type watches struct{ reader client.Reader }

func (w watches) pods() handler.EventHandler {
	return ownerwatch.Handler(ownerwatch.Options{Kind: kind.GroupKind(), Adopters: w.adopters, Freed: freed})
}

func (w watches) revisions() handler.EventHandler {
	return ownerwatch.Handler(ownerwatch.Options{Kind: kind.GroupKind(), Adopters: w.adopters})
}

// freed names the StatefulSet that wants the name of a Pod which was not its own.
func freed(_ context.Context, pod client.Object) []string {
	set, _, ok := splitName(pod.GetName())
	if !ok {
		return nil
	}
	return []string{set}
}

func (w watches) adopters(ctx context.Context, dependent client.Object) []string {
	if len(dependent.GetLabels()) == 0 {
		return nil
	}
	var list appsv1.StatefulSetList
	err := w.reader.List(ctx, &list, client.InNamespace(dependent.GetNamespace()),
		client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the StatefulSets of an orphan", "namespace", dependent.GetNamespace())
		return nil
	}
	var names []string
	for i := range list.Items {
		set := &list.Items[i]
		selector, err := selectorOf(set)
		if err == nil && selector.Matches(labels.Set(dependent.GetLabels())) {
			names = append(names, set.Name)
		}
	}
	return names
}
