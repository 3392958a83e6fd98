package history

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// orphan is the index value of revisions without a controller; no UID looks like it.
const orphan = "orphan"

// Index lets List find the revisions of owners of one kind. Call it once per kind and
// manager.
func Index(ctx context.Context, indexer client.FieldIndexer, kind schema.GroupKind) error {
	err := indexer.IndexField(ctx, &appsv1.ControllerRevision{}, indexName(kind), func(obj client.Object) []string {
		controller := metav1.GetControllerOfNoCopy(obj)
		switch {
		case controller == nil:
			return []string{orphan}
		case podcontrol.IsKind(controller, kind):
			return []string{string(controller.UID)}
		default:
			return nil
		}
	})
	if err != nil {
		return fmt.Errorf("failed to index ControllerRevisions by their %s: %w", kind.Kind, err)
	}
	return nil
}

// List returns the revisions that owner controls and those of its namespace that
// nobody controls. They are the cache's own objects: read, never write.
func List(ctx context.Context, reader client.Reader, owner podcontrol.Owner) ([]*appsv1.ControllerRevision, error) {
	// Orphans first: a revision that is adopted between the two reads is seen twice
	// rather than never. The later copy counts.
	var revisions []*appsv1.ControllerRevision
	at := map[string]int{}
	for _, value := range []string{orphan, string(owner.Object.GetUID())} {
		var list appsv1.ControllerRevisionList
		err := reader.List(ctx, &list, client.InNamespace(owner.Object.GetNamespace()),
			client.MatchingFields{indexName(owner.Kind.GroupKind()): value}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("failed to list ControllerRevisions: %w", err)
		}
		for i := range list.Items {
			revision := &list.Items[i]
			if earlier, seen := at[revision.Name]; seen {
				revisions[earlier] = revision
				continue
			}
			at[revision.Name] = len(revisions)
			revisions = append(revisions, revision)
		}
	}
	return revisions, nil
}

func indexName(kind schema.GroupKind) string { return "controller." + kind.String() }
