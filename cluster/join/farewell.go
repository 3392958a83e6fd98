package join

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// What the Node of a machine that has left says of it.
const (
	reasonLeft  = "NodeLeft"
	messageLeft = "'keelson leave' has taken the machine out of the cluster"
)

// farewellWait bounds what a cluster that is gone costs a machine that leaves it.
const farewellWait = 5 * time.Second

// sayFarewell lets the Node say that the machine has left, so that nothing is placed there
// from now on, and not only when the cluster has missed it for a while. A node may not
// delete its own Node: with it would go the taints and labels that the administrator gave
// it, and whoever has the node's key could register it anew without them.
func sayFarewell(ctx context.Context, l layout, name string, now time.Time) error {
	client, err := asNode(l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, farewellWait)
	defer cancel()
	node, err := getNode(ctx, client, name)
	if err != nil || node == nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": node.ResourceVersion, "uid": node.UID},
		"status":   map[string]any{"conditions": conditionsAfterLeaving(node.Status.Conditions, now)},
	})
	if err != nil {
		return fmt.Errorf("encode the Node's conditions: %w", err)
	}
	path := "/apis/" + keelsonv1.GroupVersion.String() + "/nodes/" + name + "/status"
	if err := client.CoreV1().RESTClient().Patch(types.MergePatchType).AbsPath(path).Body(patch).Do(ctx).Error(); err != nil {
		return fmt.Errorf("patch the status of Node %s: %w", name, err)
	}
	return nil
}

// conditionsAfterLeaving are conditions with a Ready that says so.
func conditionsAfterLeaving(conditions []corev1.NodeCondition, now time.Time) []corev1.NodeCondition {
	ready := corev1.NodeCondition{
		Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: reasonLeft, Message: messageLeft,
		LastHeartbeatTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	var after []corev1.NodeCondition
	for _, c := range conditions {
		if c.Type != corev1.NodeReady {
			after = append(after, c)
			continue
		}
		if c.Status == ready.Status {
			ready.LastTransitionTime = c.LastTransitionTime
		}
	}
	return append(after, ready)
}
