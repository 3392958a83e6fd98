package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// errStale says that the cache is behind what another manager has written: nothing can
// be decided from it.
var errStale = errors.New("the cache is behind the API server: another manager has counted Pods of the Job")

// outcome is how much of a podPlan was done.
type outcome struct {
	deleted, deletedReady, created int32
	err                            error
}

// apply executes plan.
func (r *Reconciler) apply(ctx context.Context, s *snapshot, owner podcontrol.Owner, plan podPlan) outcome {
	if plan.Reason != "" {
		klog.FromContext(ctx).V(2).Info("Changing the number of Pods", "reason", plan.Reason, "create", plan.Create, "delete", len(plan.Delete))
	}
	var deleted, ready atomic.Int32
	deleteErr := slowstart.All(ctx, len(plan.Delete), func(ctx context.Context, i int) error {
		pod := plan.Delete[i]
		if !plan.KeepFinalizer {
			// First, so that nobody counts it as failed.
			if err := dropFinalizer(ctx, r.client, pod); err != nil {
				return err
			}
		}
		if err := r.control.Delete(ctx, owner, pod); err != nil {
			return err
		}
		deleted.Add(1)
		if podstatus.IsReady(pod) {
			ready.Add(1)
		}
		return nil
	})
	created, createErr := slowstart.Run(ctx, plan.Create, func(ctx context.Context, i int) error {
		index := noIndex
		if len(plan.Indexes) > 0 {
			index = plan.Indexes[i]
		}
		return r.control.Create(ctx, owner, renderPod(s, owner, index))
	})
	if errors.Is(createErr, podcontrol.ErrNamespaceTerminating) {
		createErr = nil
	}
	return outcome{
		deleted: deleted.Load(), deletedReady: ready.Load(), created: int32(created),
		err: errors.Join(deleteErr, createErr),
	}
}

// confirm reads pods past the cache and returns errStale when one of them has no
// finalizer any more: another manager counted it, and this one must not count it again.
// What follows is written with the version of the Job that the snapshot was made from,
// so nobody can count it in between.
func (r *Reconciler) confirm(ctx context.Context, pods []*keelsonv1.Pod) error {
	return slowstart.All(ctx, len(pods), func(ctx context.Context, i int) error {
		fresh := &metav1.PartialObjectMetadata{}
		fresh.SetGroupVersionKind(keelsonv1.GroupVersion.WithKind("Pod"))
		err := r.live.Get(ctx, client.ObjectKeyFromObject(pods[i]), fresh)
		switch {
		case apierrors.IsNotFound(err) || err == nil && (fresh.UID != pods[i].UID || !jobs.IsTracked(fresh)):
			return errStale
		case err != nil:
			return fmt.Errorf("failed to read Pod %s again: %w", klog.KObj(pods[i]), err)
		}
		return nil
	})
}

// releaseAll removes the tracking finalizer from pods and returns the UIDs of those
// that have it no more.
func (r *Reconciler) releaseAll(ctx context.Context, pods []*keelsonv1.Pod) (released []types.UID, err error) {
	done := make([]bool, len(pods))
	err = slowstart.All(ctx, len(pods), func(ctx context.Context, i int) error {
		err := r.release(ctx, pods[i])
		done[i] = err == nil
		return err
	})
	for i, pod := range pods {
		if done[i] {
			released = append(released, pod.UID)
		}
	}
	return released, err
}

// dropFinalizer removes the tracking finalizer from pod as it was seen: one that has
// ended since, or was adopted, is to be looked at again. One that is gone is no error.
func dropFinalizer(ctx context.Context, c client.Client, pod *keelsonv1.Pod) error {
	if !jobs.IsTracked(pod) {
		return nil
	}
	dropped := pod.DeepCopy()
	controllerutil.RemoveFinalizer(dropped, upstreambatchv1.JobTrackingFinalizer)
	err := c.Patch(ctx, dropped, client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to remove the tracking finalizer from Pod %s: %w", klog.KObj(pod), err)
	}
	return nil
}

// release removes the tracking finalizer from this very pod, which is counted or will not
// be; one that is gone is no error. Only this finalizer is touched, at the place where it is:
// others come and go at the same time, the agent's above all.
//
// A Pod that still ran when it was seen and has ended since is errStale: its end counts.
func (r *Reconciler) release(ctx context.Context, pod *keelsonv1.Pod) error {
	if !jobs.IsTracked(pod) {
		return nil
	}
	err := r.releaseAsSeen(ctx, pod)
	if apierrors.IsInvalid(err) {
		// The list, or the phase, has changed since: once more, from what it is now.
		fresh := &keelsonv1.Pod{}
		err = r.live.Get(ctx, client.ObjectKeyFromObject(pod), fresh)
		switch {
		case err != nil || fresh.UID != pod.UID || !jobs.IsTracked(fresh):
		case hasEnded(fresh) && !hasEnded(pod):
			err = errStale
		default:
			err = r.client.Patch(ctx, fresh, finalizerPatch(fresh))
		}
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to remove the tracking finalizer from Pod %s: %w", klog.KObj(pod), err)
	}
	return nil
}

// releaseAsSeen patches pod. One without a phase is read again first: there may be no
// status that the patch could test.
func (r *Reconciler) releaseAsSeen(ctx context.Context, pod *keelsonv1.Pod) error {
	if pod.Status.Phase == "" {
		fresh := &keelsonv1.Pod{}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(pod), fresh); err != nil {
			return err
		}
		if fresh.UID == pod.UID && hasEnded(fresh) {
			return errStale
		}
	}
	return r.client.Patch(ctx, pod.DeepCopy(), finalizerPatch(pod))
}

func hasEnded(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// finalizerPatch fails, as invalid, when the finalizer is not where pod has it, the Pod is
// another one of that name, or one that ran is in another phase.
func finalizerPatch(pod *keelsonv1.Pod) client.Patch {
	at := "/metadata/finalizers/" + strconv.Itoa(slices.Index(pod.Finalizers, upstreambatchv1.JobTrackingFinalizer))
	running := ""
	if phase := pod.Status.Phase; phase != "" && !hasEnded(pod) {
		running = fmt.Sprintf(`{"op":"test","path":"/status/phase","value":%q},`, phase)
	}
	return client.RawPatch(types.JSONPatchType, fmt.Appendf(nil,
		`[{"op":"test","path":"/metadata/uid","value":%q},%s{"op":"test","path":%q,"value":%q},{"op":"remove","path":%q}]`,
		pod.UID, running, at, upstreambatchv1.JobTrackingFinalizer, at))
}
