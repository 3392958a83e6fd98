package state

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// NodeInfo is a Node and the Pods that it holds, assumed ones included. It is never
// changed: an event makes a new one.
type NodeInfo struct {
	Node *corev1.Node

	Allocatable Amounts
	AllowedPods int64
	// Images are the sizes of the images that it has, by every name.
	Images map[string]int64

	// Pods are in no particular order.
	Pods []*PodInfo
	// Requested and Scored are the sums over Pods.
	Requested, Scored Amounts
	Ports             []HostPort
	// withTerms are those of Pods that have terms of Pod affinity.
	withTerms []*PodInfo

	// generation is another one for each NodeInfo of a Cache; 0 for one made by With or
	// Without, which nothing may be remembered about.
	generation uint64
}

func newNodeInfo(node *keelsonv1.Node) *NodeInfo {
	info := &NodeInfo{
		Node:        node.Upstream(),
		Allocatable: NewAmounts(node.Status.Allocatable),
		Images:      imageSizes(node.Status.Images),
	}
	if pods, ok := node.Status.Allocatable[corev1.ResourcePods]; ok {
		info.AllowedPods = pods.Value()
	}
	return info
}

// Empty returns the Node without any Pod.
func Empty(node *corev1.Node) *NodeInfo {
	return newNodeInfo(&keelsonv1.Node{ObjectMeta: node.ObjectMeta, Spec: node.Spec, Status: keelsonv1.NodeStatus{NodeStatus: node.Status}})
}

func imageSizes(images []corev1.ContainerImage) map[string]int64 {
	if len(images) == 0 {
		return nil
	}
	sizes := make(map[string]int64, 2*len(images))
	for _, image := range images {
		for _, name := range image.Names {
			sizes[name] = image.SizeBytes
		}
	}
	return sizes
}

// ImageName completes the name of an image as nodes report it: with its tag.
func ImageName(name string) string {
	if strings.LastIndex(name, ":") <= strings.LastIndex(name, "/") {
		return name + ":latest"
	}
	return name
}

// onNode carries the Pods over to a newer version of the same Node.
func (n *NodeInfo) onNode(node *keelsonv1.Node) *NodeInfo {
	next := newNodeInfo(node)
	next.Pods, next.withTerms = n.Pods, n.withTerms
	next.Requested, next.Scored, next.Ports = n.Requested, n.Scored, n.Ports
	return next
}

// With returns n with one more Pod, for a trial.
func (n *NodeInfo) With(pod *PodInfo) *NodeInfo {
	trial := *n
	trial.Pods, trial.withTerms = slices.Clip(n.Pods), slices.Clip(n.withTerms)
	return trial.withPod(pod)
}

// Without returns n without a Pod, for a trial.
func (n *NodeInfo) Without(pod *PodInfo) *NodeInfo { return n.withoutPod(pod) }

// withPod may write behind the end of n's slices: only one successor of a NodeInfo may
// be made with it.
func (n *NodeInfo) withPod(pod *PodInfo) *NodeInfo {
	next := *n
	next.generation = 0
	next.Pods = append(n.Pods, pod)
	if !pod.none() {
		next.withTerms = append(n.withTerms, pod)
	}
	next.Requested = n.Requested.Plus(pod.Requests, 1)
	next.Scored = n.Scored.Plus(pod.Scored, 1)
	if len(pod.Ports) > 0 {
		next.Ports = slices.Concat(n.Ports, pod.Ports)
	}
	return &next
}

func (n *NodeInfo) withoutPod(pod *PodInfo) *NodeInfo {
	next := *n
	next.generation = 0
	at := indexOf(n.Pods, pod)
	if at < 0 {
		return &next
	}
	gone := n.Pods[at]
	next.Pods = without(n.Pods, at)
	if i := indexOf(n.withTerms, pod); i >= 0 {
		next.withTerms = without(n.withTerms, i)
	}
	next.Requested = n.Requested.Plus(gone.Requests, -1)
	next.Scored = n.Scored.Plus(gone.Scored, -1)
	if len(gone.Ports) > 0 {
		next.Ports = slices.Clone(n.Ports)
		for _, port := range gone.Ports {
			if i := slices.Index(next.Ports, port); i >= 0 {
				next.Ports = slices.Delete(next.Ports, i, i+1)
			}
		}
	}
	return &next
}

func indexOf(pods []*PodInfo, pod *PodInfo) int {
	return slices.IndexFunc(pods, func(p *PodInfo) bool { return p.Pod.UID == pod.Pod.UID })
}

func without(pods []*PodInfo, at int) []*PodInfo {
	rest := make([]*PodInfo, 0, len(pods)-1)
	return append(append(rest, pods[:at]...), pods[at+1:]...)
}
