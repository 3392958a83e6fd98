package deployment

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

const (
	// setIndex finds ReplicaSets by the UID of the Deployment that controls them.
	setIndex = "deployment.controller"
	// orphan is its value for those that nobody controls; no UID looks like it.
	orphan = "orphan"
)

func indexSets(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &appsv1.ReplicaSet{}, setIndex, func(obj client.Object) []string {
		controller := metav1.GetControllerOfNoCopy(obj)
		switch {
		case controller == nil:
			return []string{orphan}
		case podcontrol.IsKind(controller, kind.GroupKind()):
			return []string{string(controller.UID)}
		default:
			return nil
		}
	})
	if err != nil {
		return fmt.Errorf("failed to index ReplicaSets by their Deployment: %w", err)
	}
	return nil
}

// listSets returns the ReplicaSets that d controls and those of its namespace that
// nobody controls. They are the cache's own: read, never write.
func listSets(ctx context.Context, reader client.Reader, d *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	// Orphans first: one that is adopted between the two reads is then seen twice, and
	// the later copy counts.
	var sets []*appsv1.ReplicaSet
	at := map[types.UID]int{}
	for _, value := range []string{orphan, string(d.UID)} {
		var list appsv1.ReplicaSetList
		err := reader.List(ctx, &list, client.InNamespace(d.Namespace), client.MatchingFields{setIndex: value}, client.UnsafeDisableDeepCopy)
		if err != nil {
			return nil, fmt.Errorf("failed to list ReplicaSets: %w", err)
		}
		for i := range list.Items {
			rs := &list.Items[i]
			if seen, ok := at[rs.UID]; ok {
				sets[seen] = rs
				continue
			}
			at[rs.UID] = len(sets)
			sets = append(sets, rs)
		}
	}
	return sets, nil
}

// claims are what a Deployment makes of the ReplicaSets that it could have.
type claims struct{ mine, adopt, release []*appsv1.ReplicaSet }

// planClaims decides. A Deployment that is being deleted adopts and releases nothing.
func planClaims(d *appsv1.Deployment, selector labels.Selector, sets []*appsv1.ReplicaSet) claims {
	var c claims
	deleting := d.DeletionTimestamp != nil
	for _, rs := range sets {
		matches := selector.Matches(labels.Set(rs.Labels))
		controller := metav1.GetControllerOfNoCopy(rs)
		switch {
		case controller == nil && matches && !deleting && rs.DeletionTimestamp == nil:
			c.adopt = append(c.adopt, rs)
		case controller == nil || controller.UID != d.UID:
			// Not ours.
		case matches:
			c.mine = append(c.mine, rs)
		case !deleting:
			c.release = append(c.release, rs)
		}
	}
	return c
}

// claim adopts and releases, and says whether it did: the sets must then be read again.
func (r *Reconciler) claim(ctx context.Context, d *appsv1.Deployment, c claims) (changed bool, err error) {
	if len(c.adopt) > 0 {
		if err := r.recheck(ctx, d); err != nil {
			return false, fmt.Errorf("failed to adopt %d ReplicaSets: %w", len(c.adopt), err)
		}
	}
	var errs []error
	for _, rs := range c.adopt {
		adopted := released(d, rs)
		adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(d, kind))
		errs = append(errs, r.patchOwners(ctx, rs, adopted, "adopt"))
	}
	for _, rs := range c.release {
		errs = append(errs, client.IgnoreNotFound(r.patchOwners(ctx, rs, released(d, rs), "release")))
	}
	return len(c.adopt)+len(c.release) > 0, errors.Join(errs...)
}

// recheck reads d past the cache: adopting for a Deployment that was deleted would hand
// its orphans to the garbage collector.
func (r *Reconciler) recheck(ctx context.Context, d *appsv1.Deployment) error {
	var fresh appsv1.Deployment
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(d), &fresh); err != nil {
		return fmt.Errorf("failed to read the Deployment again: %w", err)
	}
	if fresh.UID != d.UID {
		return fmt.Errorf("Deployment %s with UID %s is gone: its name now belongs to UID %s", klog.KObj(d), d.UID, fresh.UID)
	}
	if fresh.DeletionTimestamp != nil {
		return fmt.Errorf("Deployment %s has just been deleted", klog.KObj(d))
	}
	return nil
}

// patchOwners replaces a list, so it insists on the version that was seen.
func (r *Reconciler) patchOwners(ctx context.Context, seen, wanted *appsv1.ReplicaSet, verb string) error {
	err := r.client.Patch(ctx, wanted, client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		if apierrors.IsNotFound(err) {
			return err
		}
		return fmt.Errorf("failed to %s ReplicaSet %s: %w", verb, klog.KObj(seen), err)
	}
	klog.FromContext(ctx).V(2).Info("Changed the owner of a ReplicaSet", "how", verb, "replicaSet", klog.KObj(seen))
	return nil
}

// released is rs without any reference to d.
func released(d *appsv1.Deployment, rs *appsv1.ReplicaSet) *appsv1.ReplicaSet {
	out := rs.DeepCopy()
	out.OwnerReferences = slices.DeleteFunc(out.OwnerReferences, func(ref metav1.OwnerReference) bool { return ref.UID == d.UID })
	return out
}

// isOurs says whether rs is d's, or will be adopted.
func isOurs(d *appsv1.Deployment, selector labels.Selector, rs *appsv1.ReplicaSet) bool {
	if controller := metav1.GetControllerOfNoCopy(rs); controller != nil {
		return controller.UID == d.UID
	}
	return rs.DeletionTimestamp == nil && selector.Matches(labels.Set(rs.Labels))
}
