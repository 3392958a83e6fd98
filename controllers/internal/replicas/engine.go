package replicas

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// Engine executes plans.
type Engine struct {
	// Client writes Pods. Where its reads are cached they must contain its own writes.
	Client client.Client
	// Live reads the owner from the API server before a Pod is adopted.
	Live client.Reader
	// Recorder tells the owner's user what was done.
	Recorder events.EventRecorder
	// Account finds the ServiceAccount of a Pod; its error refuses the Pod.
	Account func(ctx context.Context, pod *keelsonv1.Pod) (*corev1.ServiceAccount, error)
}

// errNamespaceTerminating ends a slow start early: every further Pod would be
// refused in the same way.
var errNamespaceTerminating = errors.New("the namespace is being deleted")

// Claim adopts and releases what plan says. After an error, including that of a Pod
// that vanished, the plan's counts no longer hold: do not Scale, plan again.
func (e *Engine) Claim(ctx context.Context, owner *Owner, plan *Plan) error {
	if len(plan.Adopt) > 0 {
		if err := e.recheckOwner(ctx, owner); err != nil {
			return fmt.Errorf("failed to adopt %d Pods: %w", len(plan.Adopt), err)
		}
	}
	adoptErr := slowstart.All(ctx, len(plan.Adopt), func(ctx context.Context, i int) error {
		return e.adopt(ctx, owner, plan.Adopt[i])
	})
	releaseErr := slowstart.All(ctx, len(plan.Release), func(ctx context.Context, i int) error {
		return e.release(ctx, owner, plan.Release[i])
	})
	return errors.Join(adoptErr, releaseErr)
}

// Scale creates and deletes what plan says. What it could not do is in the error and
// in events; a Pod that is gone already is no error, and neither is a namespace that
// is being deleted.
func (e *Engine) Scale(ctx context.Context, owner *Owner, plan *Plan) error {
	if plan.Reason != "" {
		klog.FromContext(ctx).V(2).Info("Scaling", "reason", plan.Reason, "create", plan.Create, "delete", len(plan.Delete))
	}
	_, createErr := slowstart.Run(ctx, plan.Create, func(ctx context.Context, _ int) error {
		return e.create(ctx, owner)
	})
	if errors.Is(createErr, errNamespaceTerminating) {
		createErr = nil
	}
	deleteErr := slowstart.All(ctx, len(plan.Delete), func(ctx context.Context, i int) error {
		return e.delete(ctx, owner, plan.Delete[i])
	})
	return errors.Join(createErr, deleteErr)
}

// recheckOwner reads the owner past the cache: adopting for an owner that was deleted
// would hand its orphans to the garbage collector.
func (e *Engine) recheckOwner(ctx context.Context, owner *Owner) error {
	fresh, ok := owner.Object.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is no API object", owner.Object)
	}
	if err := e.Live.Get(ctx, client.ObjectKeyFromObject(owner.Object), fresh); err != nil {
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

func (e *Engine) adopt(ctx context.Context, owner *Owner, pod *keelsonv1.Pod) error {
	if err := e.patchOwners(ctx, pod, renderAdopted(owner, pod)); err != nil {
		return fmt.Errorf("failed to adopt Pod %s: %w", klog.KObj(pod), err)
	}
	klog.FromContext(ctx).V(2).Info("Adopted a Pod", "pod", klog.KObj(pod))
	return nil
}

func (e *Engine) release(ctx context.Context, owner *Owner, pod *keelsonv1.Pod) error {
	err := e.patchOwners(ctx, pod, renderReleased(owner, pod))
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
func (e *Engine) patchOwners(ctx context.Context, seen, wanted *keelsonv1.Pod) error {
	return e.Client.Patch(ctx, wanted, client.MergeFromWithOptions(seen, client.MergeFromWithOptimisticLock{}))
}

func (e *Engine) create(ctx context.Context, owner *Owner) error {
	pod := renderPod(owner)
	err := e.applyAccount(ctx, pod)
	if err == nil {
		err = e.Client.Create(ctx, pod)
	}
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return errNamespaceTerminating
	case err != nil:
		recordCreateFailed(e.Recorder, owner.Object, err)
		return fmt.Errorf("failed to create a Pod: %w", err)
	}
	recordCreated(e.Recorder, owner.Object, pod)
	return nil
}

func (e *Engine) delete(ctx context.Context, owner *Owner, pod *keelsonv1.Pod) error {
	err := e.Client.Delete(ctx, pod, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		recordDeleteFailed(e.Recorder, owner.Object, pod, err)
		return fmt.Errorf("failed to delete Pod %s: %w", klog.KObj(pod), err)
	}
	recordDeleted(e.Recorder, owner.Object, pod)
	return nil
}
