package scheduler

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// refusal is the decision that no Node can take a Pod now.
type refusal struct {
	profile *profile
	pod     *state.PodInfo
	why     *planner.Refusal
	outcome planner.Outcome
	// outranked are less important Pods that wait for the Node this one gets.
	outranked []*state.PodInfo
}

// nomination is what status says from now on; nil leaves it as it is.
func (r *refusal) nomination() *string {
	switch {
	case r.outcome.Preemption != nil:
		return &r.outcome.Preemption.Node
	case r.outcome.KeepNomination:
		return nil
	}
	return new(string)
}

// outrankedOn are less important Pods that wait for node. They would not get it.
func outrankedOn(cluster *state.Snapshot, pod *state.PodInfo, node string) []*state.PodInfo {
	var outranked []*state.PodInfo
	for _, other := range cluster.Nominated(node) {
		if other.Priority() < pod.Priority() {
			outranked = append(outranked, other)
		}
	}
	return outranked
}

// refuse says why the Pod waits, and makes its victims go.
func (s *scheduler) refuse(ctx context.Context, logger klog.Logger, r *refusal) {
	uid := r.pod.Pod.UID
	message := r.why.Message()
	err := s.applyWaiting(ctx, r.pod.Pod, waiting{corev1.PodReasonUnschedulable, message, r.nomination()})
	switch {
	case apierrors.IsNotFound(err):
		s.queue.Remove(uid)
		s.cache.Nominate(r.pod, "")
		return
	case err != nil:
		// The next attempt writes the condition again, and looks for victims again.
		s.cache.Nominate(r.pod, r.pod.Pod.Status.NominatedNodeName)
		s.queue.Retry(uid)
		if !apierrors.IsConflict(err) {
			logger.Error(err, "Could not say why the Pod waits")
		}
		return
	}
	eventFailedScheduling(r.profile.recorder, r.pod.Pod, message)
	if r.outcome.Preemption == nil {
		s.queue.Refuse(uid, s.wakers(r))
		return
	}
	if err := s.applyPreemption(ctx, r); err != nil {
		logger.Error(err, "Could not make room for the Pod, trying again", "node", r.outcome.Preemption.Node)
		s.queue.Retry(uid)
		return
	}
	logger.V(2).Info("Made room for the Pod", "node", r.outcome.Preemption.Node, "victims", len(r.outcome.Preemption.Victims))
	s.queue.Refuse(uid, s.wakers(r))
}

// gate says that the Pod waits for its scheduling gates.
func (s *scheduler) gate(ctx context.Context, logger klog.Logger, pod *state.PodInfo) {
	err := s.applyWaiting(ctx, pod.Pod, waiting{reason: corev1.PodReasonSchedulingGated, message: gatedMessage})
	switch {
	case err == nil:
		s.queue.Refuse(pod.Pod.UID, nil) // only a change of the Pod helps
	case apierrors.IsNotFound(err):
		s.queue.Remove(pod.Pod.UID)
	default:
		s.queue.Retry(pod.Pod.UID)
		if !apierrors.IsConflict(err) {
			logger.Error(err, "Could not say that the Pod waits for its scheduling gates")
		}
	}
}

// applyPreemption voids the nominations of less important Pods on the Node, so that they
// are placed elsewhere, and makes all victims go.
func (s *scheduler) applyPreemption(ctx context.Context, r *refusal) error {
	var errs []error
	for _, other := range r.outranked {
		s.cache.Nominate(other, "")
		if err := s.applyNoNomination(ctx, other.Pod); client.IgnoreNotFound(err) != nil {
			errs = append(errs, fmt.Errorf("Pod %s: %w", klog.KObj(other.Pod), err))
		}
		s.queue.Activate(other.Pod.UID)
	}
	for _, victim := range r.outcome.Preemption.Victims {
		if victim.Pod.DeletionTimestamp != nil {
			continue // on its way already
		}
		gone, err := s.applyEviction(ctx, victim.Pod, r.profile.Profile.SchedulerName)
		if err != nil {
			errs = append(errs, fmt.Errorf("make Pod %s go: %w", klog.KObj(victim.Pod), err))
			continue
		}
		if !gone {
			eventPreempted(r.profile.recorder, victim.Pod, r.pod.Pod, r.outcome.Preemption.Node)
		}
	}
	return errors.Join(errs...)
}

// applyEviction says on the victim why it goes, and deletes this very Pod with the grace
// that it asks for. It tells whether the victim was gone already.
func (s *scheduler) applyEviction(ctx context.Context, victim *keelsonv1.Pod, schedulerName string) (gone bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		current := &keelsonv1.Pod{}
		if err := s.live.Get(ctx, client.ObjectKeyFromObject(victim), current); err != nil {
			return err
		}
		if current.UID != victim.UID {
			gone = true
			return nil
		}
		updated := computeDisrupted(current, schedulerName, metav1.NewTime(s.clock.Now()))
		if updated == nil {
			return nil
		}
		return s.patchStatus(ctx, updated, current)
	})
	if err == nil && !gone {
		err = s.client.Delete(ctx, victim.DeepCopy(), &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &victim.UID}})
	}
	if gone || apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
