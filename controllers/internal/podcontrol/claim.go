package podcontrol

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// Claims are what an owner makes of the Pods that it could have.
type Claims struct {
	// Mine are the Pods that the owner has, those in Adopt included.
	Mine []*keelsonv1.Pod
	// Adopt are Pods without a controller that the selector matches.
	Adopt []*keelsonv1.Pod
	// Release are Pods of the owner that the selector no longer matches.
	Release []*keelsonv1.Pod
}

// PlanClaims decides. pods are those that the owner controls and those of its namespace
// that nobody controls (ListPods), in any order; it does not change them. An owner that
// is being deleted adopts and releases nothing. A Pod that is being deleted is not
// adopted.
func PlanClaims(owner Owner, selector labels.Selector, pods []*keelsonv1.Pod) Claims {
	var claims Claims
	for _, pod := range pods {
		matches := selector.Matches(labels.Set(pod.Labels))
		controller := metav1.GetControllerOfNoCopy(pod)
		switch {
		case controller == nil && matches && !owner.Deleting() && pod.DeletionTimestamp == nil:
			claims.Adopt = append(claims.Adopt, pod)
			claims.Mine = append(claims.Mine, pod)
		case controller == nil || controller.UID != owner.Object.GetUID():
			// Not ours.
		case matches:
			claims.Mine = append(claims.Mine, pod)
		case !owner.Deleting():
			claims.Release = append(claims.Release, pod)
		}
	}
	return claims
}

// Claim adopts and releases what claims say. After an error, including that of a Pod
// that vanished, the claims no longer hold: plan again before anything is counted.
func (c Control) Claim(ctx context.Context, owner Owner, claims Claims) error {
	if len(claims.Adopt) > 0 {
		if err := c.RecheckOwner(ctx, owner); err != nil {
			return fmt.Errorf("failed to adopt %d Pods: %w", len(claims.Adopt), err)
		}
	}
	adoptErr := slowstart.All(ctx, len(claims.Adopt), func(ctx context.Context, i int) error {
		return c.adopt(ctx, owner, claims.Adopt[i])
	})
	releaseErr := slowstart.All(ctx, len(claims.Release), func(ctx context.Context, i int) error {
		return c.release(ctx, owner, claims.Release[i])
	})
	return errors.Join(adoptErr, releaseErr)
}

// RecheckOwner reads the owner past the cache, before anything is adopted for it, and
// fails when it is gone or being deleted: adopting for an owner that was deleted
// would hand its orphans to the garbage collector.
func (c Control) RecheckOwner(ctx context.Context, owner Owner) error {
	fresh, ok := owner.Object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no API object", owner.Object)
	}
	if err := c.Live.Get(ctx, client.ObjectKeyFromObject(owner.Object), fresh); err != nil {
		return fmt.Errorf("failed to read %s %s again: %w", owner.Kind.Kind, klog.KObj(owner.Object), err)
	}
	if fresh.GetUID() != owner.Object.GetUID() {
		return fmt.Errorf("%s %s with UID %s is gone: its name now belongs to UID %s",
			owner.Kind.Kind, klog.KObj(owner.Object), owner.Object.GetUID(), fresh.GetUID())
	}
	if fresh.GetDeletionTimestamp() != nil {
		return fmt.Errorf("%s %s has just been deleted", owner.Kind.Kind, klog.KObj(owner.Object))
	}
	return nil
}

func (c Control) adopt(ctx context.Context, owner Owner, pod *keelsonv1.Pod) error {
	if err := c.patchOwners(ctx, pod, Adopted(owner, pod)); err != nil {
		return fmt.Errorf("failed to adopt Pod %s: %w", klog.KObj(pod), err)
	}
	klog.FromContext(ctx).V(2).Info("Adopted a Pod", "pod", klog.KObj(pod))
	return nil
}

func (c Control) release(ctx context.Context, owner Owner, pod *keelsonv1.Pod) error {
	err := c.patchOwners(ctx, pod, Released(owner, pod))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to release Pod %s: %w", klog.KObj(pod), err)
	}
	klog.FromContext(ctx).V(2).Info("Released a Pod whose labels no longer match", "pod", klog.KObj(pod))
	return nil
}

// patchOwners replaces a list, so it insists on the version that the plan has seen.
func (c Control) patchOwners(ctx context.Context, seen, wanted *keelsonv1.Pod) error {
	return c.Client.Patch(ctx, wanted, client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{}))
}

// Adopted returns pod with the owner as its controller, and with the owner's finalizer.
func Adopted(owner Owner, pod *keelsonv1.Pod) *keelsonv1.Pod {
	adopted := Released(owner, pod)
	adopted.OwnerReferences = append(adopted.OwnerReferences, *metav1.NewControllerRef(owner.Object, owner.Kind))
	if owner.Finalizer != "" {
		adopted.Finalizers = append(adopted.Finalizers, owner.Finalizer)
	}
	return adopted
}

// Released returns pod without any reference to the owner and without its finalizer.
func Released(owner Owner, pod *keelsonv1.Pod) *keelsonv1.Pod {
	released := pod.DeepCopy()
	released.OwnerReferences = slices.DeleteFunc(released.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner.Object.GetUID()
	})
	if owner.Finalizer != "" {
		released.Finalizers = slices.DeleteFunc(released.Finalizers, func(f string) bool { return f == owner.Finalizer })
	}
	return released
}
