package node

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// byNode indexes Pods in the cache.
const byNode = "node.spec.nodeName"

func nodesOf(o client.Object) []string {
	if pod, ok := o.(*keelsonv1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}
	}
	return nil
}

// markPodsNotReady takes the Pods of a silent node out of service: nobody knows how they
// are. The agent says so once it is back. One that says itself that it is not ready knows
// its Pods best.
func (r *Reconciler) markPodsNotReady(ctx context.Context, node *keelsonv1.Node) error {
	if condition := find(&node.Status, corev1.NodeReady); condition == nil || condition.Status != corev1.ConditionUnknown {
		return nil
	}
	var list keelsonv1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{byNode: node.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the Pods of node %s: %w", node.Name, err)
	}
	var failed error
	for i := range list.Items {
		pod := &list.Items[i]
		changed := pod.DeepCopy()
		if !setNotReady(&changed.Status.PodStatus, metav1.NewTime(r.options.Clock.Now())) {
			continue
		}
		// A list is replaced: insist on the version that was read.
		patch := client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, changed, patch); client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, fmt.Errorf("take Pod %s out of service: %w", pod.Name, err))
			continue
		}
		eventNodeNotReady(r.recorder, changed)
	}
	return failed
}

// setNotReady makes the condition Ready false; changed is false where it is not true.
func setNotReady(status *corev1.PodStatus, now metav1.Time) (changed bool) {
	for i := range status.Conditions {
		c := &status.Conditions[i]
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			c.Status, c.LastTransitionTime = corev1.ConditionFalse, now
			return true
		}
	}
	return false
}
