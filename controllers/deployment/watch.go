package deployment

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/ownerwatch"
)

// ownChanges passes what a reconciliation depends on: the spec, the annotations, which
// ReplicaSets get, and the status, which is put right where somebody else has written it.
func ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, known := e.ObjectOld.(*appsv1.Deployment)
			after, still := e.ObjectNew.(*appsv1.Deployment)
			return known && still && !sameStatus(&before.Status, &after.Status)
		},
	})
}

// setHandler queues the Deployments that a change of a ReplicaSet concerns.
func setHandler(reader client.Reader) handler.EventHandler {
	return ownerwatch.Handler(ownerwatch.Options{
		Kind: kind.GroupKind(),
		Adopters: func(ctx context.Context, rs client.Object) []string {
			names, err := adopters(ctx, reader, rs)
			if err != nil {
				// The cache answers from memory; it fails only while the manager stops.
				klog.FromContext(ctx).Error(err, "Failed to find who could adopt a ReplicaSet", "replicaSet", klog.KObj(rs))
			}
			return names
		},
	})
}

// adopters returns the Deployments whose selector rs matches.
func adopters(ctx context.Context, reader client.Reader, rs client.Object) ([]string, error) {
	if len(rs.GetLabels()) == 0 {
		return nil, nil
	}
	var list appsv1.DeploymentList
	err := reader.List(ctx, &list, client.InNamespace(rs.GetNamespace()), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		selector, err := metav1.LabelSelectorAsSelector(list.Items[i].Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(rs.GetLabels())) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}
