package node

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// heartbeat is the last sign of life of an agent: what it said and when this
// process saw it. The agent's own clock is compared with itself only.
type heartbeat struct {
	renewed metav1.MicroTime
	posted  metav1.Time
	node    string // the Node's UID: a new Node of the name starts afresh
	at      time.Time
}

// hear returns the heartbeat after a look at Node and Lease (nil: none) at now.
func (h heartbeat) hear(node *keelsonv1.Node, lease *coordinationv1.Lease, now time.Time) heartbeat {
	seen := heartbeat{node: string(node.UID), at: now}
	if lease != nil && lease.Spec.RenewTime != nil {
		seen.renewed = *lease.Spec.RenewTime
	}
	if condition := find(&node.Status, corev1.NodeReady); condition != nil && condition.Status != corev1.ConditionUnknown {
		seen.posted = condition.LastHeartbeatTime
	}
	same := h.node == seen.node && h.renewed.Equal(&seen.renewed) &&
		(seen.posted.IsZero() || h.posted.Equal(&seen.posted))
	if same {
		return h
	}
	return seen
}

// agentConditions are what an agent reports; all are in doubt when it is silent.
var agentConditions = []corev1.NodeConditionType{
	corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure,
}

// markSilent makes the agent's conditions Unknown, with upstream's reasons.
func markSilent(status *keelsonv1.NodeStatus, now metav1.Time) {
	for _, kind := range agentConditions {
		present := find(status, kind)
		switch {
		case present == nil:
			status.Conditions = append(status.Conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, LastTransitionTime: now,
				Reason: "NodeStatusNeverUpdated", Message: "The node agent never posted node status.",
			})
		case present.Status != corev1.ConditionUnknown:
			present.Status = corev1.ConditionUnknown
			present.Reason = "NodeStatusUnknown"
			present.Message = "The node agent stopped posting node status."
			present.LastTransitionTime = now
		}
	}
}

// conditionTaints says which taint a condition asks for; the table is upstream's.
var conditionTaints = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
}

// computeTaints returns the Node's taints with those that follow from its state put
// right, all NoSchedule; taints of others stay, in their order.
func computeTaints(node *keelsonv1.Node) []corev1.Taint {
	wanted := map[string]bool{corev1.TaintNodeUnschedulable: node.Spec.Unschedulable}
	for _, row := range conditionTaints {
		condition := find(&node.Status, row.condition)
		wanted[row.key] = condition != nil && condition.Status == row.status
	}
	if find(&node.Status, corev1.NodeReady) == nil {
		// Registered, and has not said yet that it can run anything.
		wanted[corev1.TaintNodeNotReady] = true
	}
	var taints []corev1.Taint
	for _, taint := range node.Spec.Taints {
		want, ours := wanted[taint.Key]
		if !ours || taint.Effect != corev1.TaintEffectNoSchedule {
			taints = append(taints, taint)
			continue
		}
		if want {
			taints = append(taints, taint)
			wanted[taint.Key] = false
		}
	}
	for _, key := range taintOrder() {
		if wanted[key] {
			taints = append(taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
	}
	return taints
}

// taintOrder keeps new taints in one order, whatever the map says.
func taintOrder() []string {
	keys := []string{corev1.TaintNodeUnschedulable}
	for _, row := range conditionTaints {
		keys = append(keys, row.key)
	}
	return keys
}

func taintKeys(taints []corev1.Taint) []string {
	var keys []string
	for _, taint := range taints {
		keys = append(keys, taint.Key+":"+string(taint.Effect))
	}
	return keys
}

func find(status *keelsonv1.NodeStatus, kind corev1.NodeConditionType) *corev1.NodeCondition {
	at := slices.IndexFunc(status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == kind })
	if at < 0 {
		return nil
	}
	return &status.Conditions[at]
}

func ready(status *keelsonv1.NodeStatus) corev1.ConditionStatus {
	if condition := find(status, corev1.NodeReady); condition != nil {
		return condition.Status
	}
	return corev1.ConditionUnknown
}
