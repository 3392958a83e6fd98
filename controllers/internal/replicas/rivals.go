package replicas

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Two owners with one selector do not fight: each counts the Pods that it controls, and
// whoever is first adopts an orphan. But whoever made them hardly meant it, and a release
// on either side hands Pods to the other. So both say it.

const (
	// maxRivals is how many of them are named.
	maxRivals = 5

	actionShare = "ClaimPods"
)

// rivalKind is a kind whose objects claim Pods by the same selector that another may have.
type rivalKind struct {
	schema.GroupVersionKind
	object func() client.Object
	list   func() client.ObjectList
}

// rivalKinds are those that the replica engine serves. A Pod does not tell which of them
// it was meant for.
func rivalKinds() []rivalKind {
	return []rivalKind{{
		GroupVersionKind: keelsonv1.GroupVersion.WithKind("ReplicationController"),
		object:           func() client.Object { return &keelsonv1.ReplicationController{} },
		list:             func() client.ObjectList { return &keelsonv1.ReplicationControllerList{} },
	}, {
		GroupVersionKind: appsv1.GroupVersion.WithKind("ReplicaSet"),
		object:           func() client.Object { return &appsv1.ReplicaSet{} },
		list:             func() client.ObjectList { return &appsv1.ReplicaSetList{} },
	}}
}

// selectorIndex finds the objects of one kind with one selector. Every controller has its
// own on every kind, because each runs without the other.
func (k Kind[T]) selectorIndex() string { return k.Name + ".selector" }

func (k Kind[T]) indexSelectors(ctx context.Context, indexer client.FieldIndexer) error {
	for _, rival := range rivalKinds() {
		if err := indexer.IndexField(ctx, rival.object(), k.selectorIndex(), selectorKeys); err != nil {
			return fmt.Errorf("failed to index %s by selector: %w", rival.Kind, err)
		}
	}
	return nil
}

// ReplicationControllerSelector is the selector of rc: without one its template's labels.
func ReplicationControllerSelector(rc *keelsonv1.ReplicationController) map[string]string {
	if len(rc.Spec.Selector) == 0 && rc.Spec.Template != nil {
		return rc.Spec.Template.Labels
	}
	return rc.Spec.Selector
}

// selectorKeys is the selector of an object of a rival kind in its canonical form, if it
// is one that claims Pods.
func selectorKeys(object client.Object) []string {
	var selector labels.Selector
	switch o := object.(type) {
	case *keelsonv1.ReplicationController:
		selector = labels.SelectorFromSet(ReplicationControllerSelector(o))
	case *appsv1.ReplicaSet:
		var err error
		if selector, err = metav1.LabelSelectorAsSelector(o.Spec.Selector); err != nil {
			return nil
		}
	default:
		return nil
	}
	if selector.Empty() || selector == labels.Nothing() || object.GetDeletionTimestamp() != nil {
		return nil
	}
	return []string{selector.String()}
}

// listRivals returns the names of the other owners of any kind with the selector of object,
// sorted; names of another kind begin with it.
func (k Kind[T]) listRivals(ctx context.Context, reader client.Reader, object client.Object) ([]string, error) {
	var names []string
	for _, rival := range rivalKinds() {
		of, err := k.listSharing(ctx, reader, rival.list(), object)
		if err != nil {
			return nil, err
		}
		for _, name := range of {
			if rival.GroupVersionKind != k.GroupVersionKind {
				name = rival.Kind + " " + name
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// listSharing returns the names of the objects in a list's kind with the selector of object,
// but not that of object itself.
func (k Kind[T]) listSharing(ctx context.Context, reader client.Reader, list client.ObjectList, object client.Object) ([]string, error) {
	var names []string
	for _, key := range selectorKeys(object) {
		err := reader.List(ctx, list, client.InNamespace(object.GetNamespace()), client.MatchingFields{k.selectorIndex(): key},
			client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
		if err != nil {
			return nil, fmt.Errorf("failed to find others with the selector %q: %w", key, err)
		}
		err = meta.EachListItem(list, func(item runtime.Object) error {
			if other, ok := item.(client.Object); ok && other.GetUID() != object.GetUID() {
				names = append(names, other.GetName())
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

func sharedMessage(rivals []string) string {
	shown := rivals[:min(len(rivals), maxRivals)]
	more := ""
	if n := len(rivals) - len(shown); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("The selector is also that of %s%s: give each its own labels, else either may adopt a Pod that was meant for the other.",
		strings.Join(shown, ", "), more)
}

// sharedNow says whether the condition appears with status.
func sharedNow(had, status Status) bool {
	return !hasShared(had) && hasShared(status)
}

func hasShared(status Status) bool {
	for i := range status.Conditions {
		if status.Conditions[i].Type == SelectorShared {
			return true
		}
	}
	return false
}

func recordShared(r events.EventRecorder, owner client.Object, rivals []string) {
	r.Eventf(owner, nil, corev1.EventTypeWarning, reasonShared, actionShare, "%s", sharedMessage(rivals))
}
