package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func eventNotReady(recorder events.EventRecorder, node *keelsonv1.Node) {
	recorder.Eventf(node, nil, corev1.EventTypeNormal, "NodeNotReady", "Monitoring", "Node %s status is now: NodeNotReady", node.Name)
}

func eventNoRange(recorder events.EventRecorder, node *keelsonv1.Node, err error) {
	recorder.Eventf(node, nil, corev1.EventTypeWarning, "CIDRNotAvailable", "AllocatingRange", "Node %s gets no Pod range: %v", node.Name, err)
}

func eventBadRange(recorder events.EventRecorder, node *keelsonv1.Node, err error) {
	recorder.Eventf(node, nil, corev1.EventTypeWarning, "CIDRAssignmentFailed", "JudgingRange", "Node %s has a Pod range that cannot be used: %v", node.Name, err)
}

func eventNodeNotReady(recorder events.EventRecorder, pod *keelsonv1.Pod) {
	recorder.Eventf(pod, nil, corev1.EventTypeWarning, "NodeNotReady", "Monitoring", "Node is not ready")
}
