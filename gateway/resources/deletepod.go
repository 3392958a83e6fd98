package resources

import (
	"context"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// deletePod deletes a Pod as upstream would and returns it, in the stored form, as it
// is then; gone says that it is no more.
//
// The grace goes into the annotation before the deletion, so that the node never sees
// one without the other. The finalizer goes after the deletion, so that a gateway that
// dies in between leaves a Pod that its node tears down and lets go.
func (c *call) deletePod(ctx context.Context, t target, options *metav1.DeleteOptions) (deleted map[string]any, gone bool, err error) {
	err = retry(ctx, func() error {
		live, err := c.fetch(ctx, t)
		if err != nil {
			return err
		}
		pod := &corev1.Pod{}
		if err := decodeInto(live, pod); err != nil {
			return err
		}
		if err := checkPreconditions(pod, options.Preconditions); err != nil {
			return final(err)
		}
		plan := planPodDeletion(pod, options.GracePeriodSeconds)
		switch {
		case plan.pending:
			deleted = live
			return nil
		case len(options.DryRun) > 0:
			deleted, gone, err = c.pretendDeletion(ctx, t, live, plan, options)
			return err
		}
		deleted, gone, err = c.carryOut(ctx, t, live, pod, plan, options)
		return err
	})
	return deleted, gone, err
}

// carryOut does what the plan says to the Pod that was read.
func (c *call) carryOut(ctx context.Context, t target, live map[string]any, pod *corev1.Pod, plan podDeletion, options *metav1.DeleteOptions) (map[string]any, bool, error) {
	options = options.DeepCopy()
	if options.Preconditions == nil {
		options.Preconditions = &metav1.Preconditions{}
	}
	options.Preconditions.UID = &pod.UID // the Pod of the plan, not one of the same name
	// A Pod on its way out gets its new grace together with the loss of the finalizer.
	if patch := plan.annotationPatch(pod); patch != nil && !plan.now {
		patched, err := c.mergePatch(ctx, t, patch)
		if err != nil {
			return nil, false, err
		}
		live = patched
		if options.Preconditions.ResourceVersion != nil {
			options.Preconditions.ResourceVersion = new(resourceVersionOf(patched))
		}
	}
	if pod.DeletionTimestamp != nil && !plan.now {
		return live, false, nil
	}
	answer, _, err := c.sendDeletion(ctx, t, options)
	if err != nil {
		return nil, false, err
	}
	if answer["kind"] != c.row.Kind {
		return asDeleted(live, c.clock.Now(), plan), true, nil
	}
	if !plan.now {
		return answer, false, nil
	}
	return c.release(ctx, t, answer)
}

// release takes the finalizer off a Pod that is being deleted. It repeats until it is
// off: the deletion is done and cannot be given back to the caller as a conflict.
func (c *call) release(ctx context.Context, t target, deleted map[string]any) (map[string]any, bool, error) {
	uid := metaString(deleted, "uid")
	for {
		pod := &corev1.Pod{}
		if err := decodeInto(deleted, pod); err != nil {
			return nil, false, err
		}
		patch := releasePatch(pod)
		if patch == nil {
			return deleted, false, nil // somebody else's finalizers keep it
		}
		released, err := c.mergePatch(ctx, t, patch)
		switch {
		case err == nil:
			return released, len(pod.Finalizers) == 1, nil
		case apierrors.IsNotFound(err):
			return deleted, true, nil
		case !apierrors.IsConflict(err):
			return nil, false, err
		}
		again, err := c.fetch(ctx, t)
		if apierrors.IsNotFound(err) || err == nil && metaString(again, "uid") != uid {
			return deleted, true, nil
		}
		if err != nil {
			return nil, false, err
		}
		deleted = again
	}
}

// pretendDeletion asks the API server whether it would delete, and answers with what
// the Pod would be.
func (c *call) pretendDeletion(ctx context.Context, t target, live map[string]any, plan podDeletion, options *metav1.DeleteOptions) (map[string]any, bool, error) {
	if _, _, err := c.sendDeletion(ctx, t, options); err != nil {
		return nil, false, err
	}
	return asDeleted(live, c.clock.Now(), plan), plan.now, nil
}

// asDeleted is a Pod as its deletion leaves it.
func asDeleted(live map[string]any, now time.Time, plan podDeletion) map[string]any {
	metadata := metadataOf(live)
	if _, ok := metadata["deletionTimestamp"]; !ok {
		metadata["deletionTimestamp"] = now.UTC().Format(time.RFC3339)
	}
	metadata["deletionGracePeriodSeconds"] = int64(0)
	annotations, ok := metadata["annotations"].(map[string]any)
	if !ok {
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	if plan.grace != nil {
		annotations[keelsonv1.DeletionGracePeriodAnnotation] = strconv.FormatInt(*plan.grace, 10)
	}
	return live
}

// mergePatch writes a patch of the gateway's own to a stored object.
func (c *call) mergePatch(ctx context.Context, t target, patch map[string]any) (map[string]any, error) {
	raw, err := encodeTree(patch)
	if err != nil {
		return nil, err
	}
	written, _, err := c.ask(ctx, asked{method: http.MethodPatch, target: t, contentType: string(types.MergePatchType), body: raw})
	return written, err
}
