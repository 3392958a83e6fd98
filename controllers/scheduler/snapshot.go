package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// NodeInfo is a Node and the sum of what its Pods take. It is never changed: an
// event makes a new one.
type NodeInfo struct {
	Node *corev1.Node

	allocatable amounts
	allowedPods int64

	pods      int64
	requested amounts
	scored    amounts
	ports     []hostPort
}

func newNodeInfo(node *keelsonv1.Node) *NodeInfo {
	info := &NodeInfo{Node: node.Upstream(), allocatable: newAmounts(node.Status.Allocatable)}
	if pods, ok := node.Status.Allocatable[corev1.ResourcePods]; ok {
		info.allowedPods = pods.Value()
	}
	return info
}

// withNode carries the sums over to a newer version of the same Node.
func (n *NodeInfo) withNode(node *keelsonv1.Node) *NodeInfo {
	next := newNodeInfo(node)
	next.pods, next.requested, next.scored, next.ports = n.pods, n.requested, n.scored, n.ports
	return next
}

func (n *NodeInfo) withPod(u usage) *NodeInfo {
	next := *n
	next.pods++
	next.requested = n.requested.plus(u.requests, 1)
	next.scored = n.scored.plus(u.scored, 1)
	if len(u.ports) > 0 {
		next.ports = slices.Concat(n.ports, u.ports)
	}
	return &next
}

func (n *NodeInfo) withoutPod(u usage) *NodeInfo {
	next := *n
	next.pods--
	next.requested = n.requested.plus(u.requests, -1)
	next.scored = n.scored.plus(u.scored, -1)
	if len(u.ports) > 0 {
		next.ports = slices.Clone(n.ports)
		for _, port := range u.ports {
			if i := slices.Index(next.ports, port); i >= 0 {
				next.ports = slices.Delete(next.ports, i, i+1)
			}
		}
	}
	return &next
}

// Snapshot is the Nodes at one moment. It is never changed, so that it can be read
// without a lock.
type Snapshot struct {
	nodes []*NodeInfo
}

// Nodes returns the Nodes in no particular order; the caller must not change the
// slice.
func (s Snapshot) Nodes() []*NodeInfo { return s.nodes }
