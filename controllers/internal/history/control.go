// Package history keeps the past templates of a DaemonSet or a StatefulSet as
// ControllerRevisions: it finds or creates the one of the present template, numbers
// it, adopts what lost its owner and deletes what is older than the user wants.
//
// It never touches the workload or its Pods, and never deletes a revision that its
// caller calls live. It keeps no memory: what was done before a crash is found in the
// API, because a revision's name follows from its content, and revisions are compared
// by what their templates mean, not by their bytes.
package history

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Control writes the revisions of workloads of one kind.
type Control struct {
	// Pods supplies the clients, and rechecks owners before anything is adopted.
	Pods podcontrol.Control
	// HashLabel is the label of a revision that holds its hash. Upstream's is another one
	// for each kind.
	HashLabel string
}

// Owner is a workload with a template.
type Owner struct {
	podcontrol.Owner
	Selector labels.Selector
	Template *corev1.PodTemplateSpec
	// CollisionCount is the workload's status.collisionCount.
	CollisionCount *int32
}

// Sync brings the revisions of owner up to date with its template, and returns them.
// It must not be called for an owner that is being deleted. Where a revision would be
// needed and the namespace is being deleted it returns podcontrol.ErrNamespaceTerminating.
func (c Control) Sync(ctx context.Context, owner Owner) (*History, error) {
	revisions, err := List(ctx, c.Pods.Client, owner.Owner)
	if err != nil {
		return nil, err
	}
	claims := PlanClaims(owner.Owner, owner.Selector, revisions)
	mine, err := c.claim(ctx, owner.Owner, claims)
	if err != nil {
		return nil, err
	}
	data, err := Data(owner.Template)
	if err != nil {
		return nil, err
	}
	plan := MakePlan(data, mine)
	h := &History{
		Others: plan.Others, CollisionCount: owner.CollisionCount,
		same: plan.Same, hashLabel: c.HashLabel,
	}
	if plan.Latest == nil {
		h.Latest, h.CollisionCount, err = c.create(ctx, owner, data, plan.Number)
	} else {
		h.Latest, err = c.renumber(ctx, plan.Latest, plan.Number)
	}
	if err != nil {
		return nil, err
	}
	h.expected = Hash(data, h.CollisionCount)
	return h, nil
}

// claim adopts and releases, and returns the owner's revisions as they are then.
func (c Control) claim(ctx context.Context, owner podcontrol.Owner, claims Claims) ([]*appsv1.ControllerRevision, error) {
	if len(claims.Adopt) > 0 {
		if err := c.Pods.RecheckOwner(ctx, owner); err != nil {
			return nil, fmt.Errorf("failed to adopt %d ControllerRevisions: %w", len(claims.Adopt), err)
		}
	}
	mine := claims.Mine
	for _, revision := range claims.Adopt {
		adopted := released(owner, revision)
		adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(owner.Object, owner.Kind))
		if err := c.patch(ctx, revision, adopted); err != nil {
			return nil, fmt.Errorf("failed to adopt ControllerRevision %s: %w", klog.KObj(revision), err)
		}
		klog.FromContext(ctx).V(2).Info("Adopted a ControllerRevision", "controllerRevision", klog.KObj(revision))
		mine = append(mine, adopted)
	}
	for _, revision := range claims.Release {
		if err := c.patch(ctx, revision, released(owner, revision)); client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("failed to release ControllerRevision %s: %w", klog.KObj(revision), err)
		}
		klog.FromContext(ctx).V(2).Info("Released a ControllerRevision whose labels no longer match", "controllerRevision", klog.KObj(revision))
	}
	return mine, nil
}

func released(owner podcontrol.Owner, revision *appsv1.ControllerRevision) *appsv1.ControllerRevision {
	free := revision.DeepCopy()
	free.OwnerReferences = slices.DeleteFunc(free.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner.Object.GetUID()
	})
	return free
}

// create stores a revision of data under the first free name, counting collisions.
func (c Control) create(ctx context.Context, owner Owner, data []byte, number int64) (*appsv1.ControllerRevision, *int32, error) {
	for collisions := owner.CollisionCount; ; collisions = new(increment(collisions)) {
		revision := c.render(owner, data, number, collisions)
		err := c.Pods.Client.Create(ctx, revision)
		if err == nil {
			klog.FromContext(ctx).V(2).Info("Created a ControllerRevision", "controllerRevision", klog.KObj(revision), "revision", number)
			return revision, collisions, nil
		}
		switch {
		case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
			return nil, nil, podcontrol.ErrNamespaceTerminating
		case !apierrors.IsAlreadyExists(err):
			return nil, nil, fmt.Errorf("failed to create a ControllerRevision: %w", err)
		}
		existing := &appsv1.ControllerRevision{}
		if err := c.Pods.Live.Get(ctx, client.ObjectKeyFromObject(revision), existing); err != nil {
			return nil, nil, fmt.Errorf("failed to read the ControllerRevision that is there already: %w", err)
		}
		if existing.DeletionTimestamp == nil && metav1.IsControlledBy(existing, owner.Object) && Equal(existing.Data.Raw, data) {
			// Ours, from before a lost answer or a change of leaders.
			return existing, collisions, nil
		}
		klog.FromContext(ctx).V(2).Info("Found a name of a ControllerRevision taken, counting a collision", "controllerRevision", klog.KObj(revision))
	}
}

func increment(count *int32) int32 {
	if count == nil {
		return 1
	}
	return *count + 1
}

func (c Control) render(owner Owner, data []byte, number int64, collisions *int32) *appsv1.ControllerRevision {
	hash := Hash(data, collisions)
	revision := &appsv1.ControllerRevision{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.Object.GetNamespace(),
			Name:            name(owner.Object.GetName(), hash),
			Labels:          maps.Clone(owner.Template.Labels),
			Annotations:     maps.Clone(owner.Object.GetAnnotations()),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner.Object, owner.Kind)},
		},
		Data:     runtime.RawExtension{Raw: data},
		Revision: number,
	}
	if revision.Labels == nil {
		revision.Labels = map[string]string{}
	}
	revision.Labels[c.HashLabel] = hash
	return revision
}

func (c Control) renumber(ctx context.Context, revision *appsv1.ControllerRevision, number int64) (*appsv1.ControllerRevision, error) {
	if revision.Revision == number {
		return revision, nil
	}
	renumbered := revision.DeepCopy()
	renumbered.Revision = number
	if err := c.patch(ctx, revision, renumbered); err != nil {
		return nil, fmt.Errorf("failed to make ControllerRevision %s revision %d: %w", klog.KObj(revision), number, err)
	}
	klog.FromContext(ctx).V(2).Info("Renumbered the ControllerRevision of a former template", "controllerRevision", klog.KObj(revision), "revision", number)
	return renumbered, nil
}

// patch insists on the version that the plan has seen.
func (c Control) patch(ctx context.Context, seen, wanted *appsv1.ControllerRevision) error {
	return c.Pods.Client.Patch(ctx, wanted, client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{}))
}

// Delete deletes revisions; those that are gone already are no error.
func (c Control) Delete(ctx context.Context, revisions []*appsv1.ControllerRevision) error {
	var failures []error
	for _, revision := range revisions {
		err := c.Pods.Client.Delete(ctx, revision, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &revision.UID}})
		if client.IgnoreNotFound(err) != nil {
			failures = append(failures, fmt.Errorf("failed to delete ControllerRevision %s: %w", klog.KObj(revision), err))
			continue
		}
		klog.FromContext(ctx).V(2).Info("Deleted a ControllerRevision beyond the history limit", "controllerRevision", klog.KObj(revision))
	}
	return errors.Join(failures...)
}
