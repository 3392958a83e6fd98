package replicas

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Two owners with one selector do not fight: each counts the Pods that it controls, and
// whoever is first adopts an orphan. But whoever made them hardly meant it, and a release
// on either side hands Pods to the other. So both say it.

const (
	// selectorIndex finds the owners of one kind with one selector.
	selectorIndex = "replicas.selector"
	// maxRivals is how many of them are named.
	maxRivals = 5

	actionShare = "ClaimPods"
)

func (k Kind[T]) indexSelectors(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, k.New(), selectorIndex, func(obj client.Object) []string {
		object, ok := obj.(T)
		if !ok {
			return nil
		}
		return k.selectorKeys(object)
	})
	if err != nil {
		return fmt.Errorf("failed to index %s by selector: %w", k.GroupVersionKind.Kind, err)
	}
	return nil
}

// selectorKeys is the selector in its canonical form, if it is one that claims Pods.
func (k Kind[T]) selectorKeys(object T) []string {
	owner := k.Owner(object)
	if owner.Invalid != nil || owner.Selector == nil || owner.Selector.Empty() || owner.Deleting() {
		return nil
	}
	return []string{owner.Selector.String()}
}

// listRivals returns the names of the other owners with the selector of object, sorted.
func (k Kind[T]) listRivals(ctx context.Context, reader client.Reader, object T) ([]string, error) {
	var names []string
	for _, key := range k.selectorKeys(object) {
		list := k.NewList()
		err := reader.List(ctx, list, client.InNamespace(object.GetNamespace()), client.MatchingFields{selectorIndex: key},
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
	slices.Sort(names)
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
