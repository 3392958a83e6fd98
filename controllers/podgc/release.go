package podgc

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// Why Pods are released; the first is the message of the condition, in upstream's words.
const (
	nodeGone     = "PodGC: node no longer exists"
	outOfService = "PodGC: node is out of service"
)

// releaser ends Pods in place of an agent.
type releaser struct {
	client client.Client
	// live reads past the cache.
	live  client.Reader
	clock clock.PassiveClock
}

// release ends a Pod whose agent is gone for good: Failed for whoever watches it, with
// the condition DisruptionTarget where nobody had deleted it before, deleted, and without
// our finalizer.
func (r *releaser) release(ctx context.Context, pod *keelsonv1.Pod, why string) error {
	if err := r.fail(ctx, pod, why); err != nil {
		return client.IgnoreNotFound(err)
	}
	if pod.DeletionTimestamp == nil {
		if err := r.client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	klog.FromContext(ctx).Info("Released a Pod of a node that is gone", "pod", klog.KObj(pod), "reason", why)
	return r.dropFinalizer(ctx, pod)
}

func (r *releaser) fail(ctx context.Context, pod *keelsonv1.Pod, why string) error {
	updated := computeFailed(pod, why, metav1.NewTime(r.clock.Now()))
	if updated == nil {
		return nil
	}
	base := client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, updated, base); err != nil {
		return fmt.Errorf("write status of Pod %s: %w", klog.KObj(pod), err)
	}
	return nil
}

// computeFailed returns the Pod as it ends without its agent, or nil when it has
// ended already.
func computeFailed(pod *keelsonv1.Pod, why string, now metav1.Time) *keelsonv1.Pod {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	updated := pod.DeepCopy()
	updated.Status.Phase = corev1.PodFailed
	updated.Status.Summary = summary.Pod(updated)
	if pod.DeletionTimestamp != nil && why == outOfService {
		return updated
	}
	updated.Status.Conditions = append(slices.DeleteFunc(updated.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget
	}), corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByPodGC", Message: why,
		LastTransitionTime: now, ObservedGeneration: pod.Generation,
	})
	return updated
}

// dropFinalizer takes our finalizer off the Pod as it is now: finalizers of others,
// added a moment ago, stay.
func (r *releaser) dropFinalizer(ctx context.Context, pod *keelsonv1.Pod) error {
	fresh := &keelsonv1.Pod{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(pod), fresh); err != nil {
		return client.IgnoreNotFound(err)
	}
	if fresh.UID != pod.UID || !slices.Contains(fresh.Finalizers, keelsonv1.PodFinalizer) {
		return nil
	}
	updated := fresh.DeepCopy()
	updated.Finalizers = slices.DeleteFunc(updated.Finalizers, func(f string) bool { return f == keelsonv1.PodFinalizer })
	base := client.MergeFromWithOptions(fresh, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, updated, base); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("take the finalizer off Pod %s: %w", klog.KObj(pod), err)
	}
	return nil
}
