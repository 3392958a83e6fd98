package podcontrol

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// orphan is the index value of Pods without a controller; no UID looks like it.
const orphan = "orphan"

// IndexPods lets ListPods find the Pods of owners of one kind without looking at all
// Pods. Call it once per kind and manager.
func IndexPods(ctx context.Context, indexer client.FieldIndexer, kind schema.GroupKind) error {
	err := indexer.IndexField(ctx, &keelsonv1.Pod{}, indexName(kind), func(obj client.Object) []string {
		return indexValues(kind, obj)
	})
	if err != nil {
		return fmt.Errorf("failed to index Pods by their %s: %w", kind.Kind, err)
	}
	return nil
}

// ListPods returns the Pods that owner controls and the Pods of its namespace that
// nobody controls. They are the cache's own objects: read, never write.
func ListPods(ctx context.Context, reader client.Reader, owner Owner) ([]*keelsonv1.Pod, error) {
	// Orphans first: a Pod that changes hands between the two reads is then seen twice
	// (and counted once) when it was adopted, and not at all when it was released.
	var pods []*keelsonv1.Pod
	seen := map[types.UID]bool{}
	for _, value := range []string{orphan, string(owner.Object.GetUID())} {
		var list keelsonv1.PodList
		err := reader.List(ctx, &list, client.InNamespace(owner.Object.GetNamespace()),
			client.MatchingFields{indexName(owner.Kind.GroupKind()): value}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("failed to list Pods: %w", err)
		}
		for i := range list.Items {
			seen[list.Items[i].UID] = true
			pods = append(pods, &list.Items[i])
		}
	}
	return newestOfEach(pods, seen), nil
}

// ListOwned returns the Pods that owner controls, read from the cache as it is: for
// looking at another owner's Pods. They are the cache's own objects: read, never write.
func ListOwned(ctx context.Context, reader client.Reader, owner Owner) ([]*keelsonv1.Pod, error) {
	var list keelsonv1.PodList
	err := reader.List(ctx, &list, client.InNamespace(owner.Object.GetNamespace()),
		client.MatchingFields{indexName(owner.Kind.GroupKind()): string(owner.Object.GetUID())},
		client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		return nil, fmt.Errorf("failed to list the Pods of %s %s: %w", owner.Kind.Kind, owner.Object.GetName(), err)
	}
	pods := make([]*keelsonv1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	return pods, nil
}

// newestOfEach keeps the last of several copies of one Pod. uids are those of pods.
func newestOfEach(pods []*keelsonv1.Pod, uids map[types.UID]bool) []*keelsonv1.Pod {
	if len(uids) == len(pods) {
		return pods
	}
	kept := make([]*keelsonv1.Pod, 0, len(uids))
	for _, pod := range slices.Backward(pods) {
		if uids[pod.UID] {
			uids[pod.UID] = false
			kept = append(kept, pod)
		}
	}
	return kept
}

func indexName(kind schema.GroupKind) string { return "controller." + kind.String() }

func indexValues(kind schema.GroupKind, obj client.Object) []string {
	controller := metav1.GetControllerOfNoCopy(obj)
	switch {
	case controller == nil:
		return []string{orphan}
	case IsKind(controller, kind):
		return []string{string(controller.UID)}
	default:
		return nil
	}
}

// IsKind says whether ref points at an object of kind, in whatever version.
func IsKind(ref *metav1.OwnerReference, kind schema.GroupKind) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == kind.Group && ref.Kind == kind.Kind
}
