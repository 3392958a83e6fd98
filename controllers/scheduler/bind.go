package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
)

// renderBinding is the one patch that binds: spec.nodeName, the finalizer that keeps
// the object until the node's agent is done, and the generation that it adds one to. The resource version makes it
// fail when anybody wrote the Pod since it was read, another scheduler included.
func renderBinding(pod *keelsonv1.Pod, node string) ([]byte, error) {
	finalizers := pod.Finalizers
	if !slices.Contains(finalizers, keelsonv1.PodFinalizer) {
		finalizers = append(slices.Clone(finalizers), keelsonv1.PodFinalizer)
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{
			"uid":             pod.UID,
			"resourceVersion": pod.ResourceVersion,
			"finalizers":      finalizers,
			"annotations": map[string]string{
				keelsonv1.GenerationBeforeBindingAnnotation: strconv.FormatInt(pod.Generation, 10),
			},
		},
		"spec": map[string]any{"nodeName": node},
	})
}

// applyBinding writes the binding.
func (s *scheduler) applyBinding(ctx context.Context, pod *keelsonv1.Pod, node string) error {
	patch, err := renderBinding(pod, node)
	if err != nil {
		return fmt.Errorf("render the binding: %w", err)
	}
	target := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	// This package never reads Pods through the client: nothing has to wait for this.
	if err := s.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.DisableReadYourWritesConsistency); err != nil {
		return fmt.Errorf("bind to node %s: %w", node, err)
	}
	return nil
}

// computeUnschedulable returns the Pod with the condition that says why it waits,
// or nil when it says so already.
func computeUnschedulable(pod *keelsonv1.Pod, message string, now metav1.Time) *keelsonv1.Pod {
	wanted := corev1.PodCondition{
		Type:               corev1.PodScheduled,
		Status:             corev1.ConditionFalse,
		ObservedGeneration: pod.Generation,
		Reason:             corev1.PodReasonUnschedulable,
		Message:            message,
		LastTransitionTime: now,
	}
	conditions := slices.Clone(pod.Status.Conditions)
	at := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled })
	if at < 0 {
		conditions = append(conditions, wanted)
	} else {
		present := conditions[at]
		if present.Status == wanted.Status {
			wanted.LastTransitionTime = present.LastTransitionTime
		}
		wanted.LastProbeTime = present.LastProbeTime
		if present == wanted {
			return nil
		}
		conditions[at] = wanted
	}
	updated := pod.DeepCopy()
	updated.Status.Conditions = conditions
	updated.Status.Summary = summary.Pod(updated)
	return updated
}

// applyUnschedulable writes the condition if it is news.
func (s *scheduler) applyUnschedulable(ctx context.Context, pod *keelsonv1.Pod, message string) error {
	updated := computeUnschedulable(pod, message, metav1.NewTime(s.clock.Now()))
	if updated == nil {
		return nil
	}
	base := client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})
	if err := s.client.Status().Patch(ctx, updated, base, client.DisableReadYourWritesConsistency); err != nil {
		return fmt.Errorf("write condition PodScheduled: %w", err)
	}
	return nil
}
