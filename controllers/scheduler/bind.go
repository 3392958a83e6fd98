package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// bind carries a placement out.
func (s *scheduler) bind(ctx context.Context, logger klog.Logger, profile *profile, pod *state.PodInfo, node string) {
	err := s.applyBinding(ctx, pod.Pod, node)
	uid := pod.Pod.UID
	switch {
	case err == nil:
		logger.V(2).Info("Bound", "node", node)
		eventScheduled(profile.recorder, pod.Pod, node)
		s.clearNomination(ctx, logger, pod.Pod)
		// The assumption stays until the watch shows the Pod bound or gone.
	case apierrors.IsNotFound(err):
		s.cache.Forget(uid)
		s.queue.Remove(uid)
		s.queue.Happened(&plugins.Event{Kind: plugins.PodGone, OldPod: pod})
	default:
		s.cache.Forget(uid)
		s.queue.Retry(uid)
		// What this Pod seemed to hold is free for others again.
		s.queue.Happened(&plugins.Event{Kind: plugins.PodGone, OldPod: pod})
		if apierrors.IsConflict(err) {
			logger.V(2).Info("Somebody changed the Pod, placing it again", "node", node)
			return
		}
		logger.Error(err, "Binding failed, placing the Pod again")
		eventFailedBinding(profile.recorder, pod.Pod, err)
	}
}

// clearNomination takes from a bound Pod what it waited for. Nothing depends on it.
func (s *scheduler) clearNomination(ctx context.Context, logger klog.Logger, pod *keelsonv1.Pod) {
	if pod.Status.NominatedNodeName == "" {
		return
	}
	if err := s.applyNoNomination(ctx, pod); client.IgnoreNotFound(err) != nil {
		logger.Error(err, "Could not clear the nominated node of a bound Pod")
	}
}

// applyNoNomination removes status.nominatedNodeName and looks at nothing else.
func (s *scheduler) applyNoNomination(ctx context.Context, pod *keelsonv1.Pod) error {
	target := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"nominatedNodeName": nil},
	})
	if err != nil {
		return fmt.Errorf("render the patch of status.nominatedNodeName: %w", err)
	}
	if err := s.client.Status().Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.DisableReadYourWritesConsistency); err != nil {
		return fmt.Errorf("clear status.nominatedNodeName: %w", err)
	}
	return nil
}

// renderBinding is the one patch that binds: spec.nodeName, the finalizer that keeps
// the object until the node's agent is done, and the generation that it adds one to. The
// resource version makes it fail when anybody wrote the Pod since it was read, another
// scheduler included. It also ends the tracking of fields where nobody asks for that (ADR 0038).
func renderBinding(pod *keelsonv1.Pod, node string) ([]byte, error) {
	finalizers := pod.Finalizers
	if !slices.Contains(finalizers, keelsonv1.PodFinalizer) {
		finalizers = append(slices.Clone(finalizers), keelsonv1.PodFinalizer)
	}
	metadata := map[string]any{
		"uid":             pod.UID,
		"resourceVersion": pod.ResourceVersion,
		"finalizers":      finalizers,
		"annotations": map[string]string{
			keelsonv1.GenerationBeforeBindingAnnotation: strconv.FormatInt(pod.Generation, 10),
		},
	}
	if untracked(pod) {
		// By one empty entry the API server knows that the field is to be emptied.
		metadata["managedFields"] = []metav1.ManagedFieldsEntry{{}}
	}
	return json.Marshal(map[string]any{"metadata": metadata, "spec": map[string]any{"nodeName": node}})
}

// untracked tells whether the API server may forget who set which field of the Pod: that
// record serves those who apply manifests, and nobody has applied one to this Pod, on the
// server or with kubectl. Updating it is more than a third of what a write of a Pod costs,
// its agent's included. The API server begins a new one with the first apply.
func untracked(pod *keelsonv1.Pod) bool {
	return pod.Annotations[corev1.LastAppliedConfigAnnotation] == "" &&
		!slices.ContainsFunc(pod.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
			return e.Operation == metav1.ManagedFieldsOperationApply
		})
}

// applyBinding writes the binding.
func (s *scheduler) applyBinding(ctx context.Context, pod *keelsonv1.Pod, node string) error {
	patch, err := renderBinding(pod, node)
	if err != nil {
		return fmt.Errorf("render the binding: %w", err)
	}
	// The answer is of no use but for its error: of metadata alone it costs the API server,
	// and this process, the least.
	target := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	target.SetGroupVersionKind(keelsonv1.GroupVersion.WithKind("Pod"))
	// This package never reads Pods through the client: nothing has to wait for this. And
	// the API server need not look for unknown fields, which would go unnoticed anyway.
	err = s.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch),
		client.DisableReadYourWritesConsistency, client.FieldValidation(metav1.FieldValidationIgnore))
	if err != nil {
		return fmt.Errorf("bind to node %s: %w", node, err)
	}
	return nil
}
