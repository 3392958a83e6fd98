// Package schedulertest builds Pods, Nodes and whole clusters for tests of the
// scheduler, in one line each. It is for tests only.
package schedulertest

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Node builds a Node.
type Node struct{ node keelsonv1.Node }

// MakeNode starts a Node with room for 110 Pods, 4 CPUs and 8Gi.
func MakeNode(name string) *Node {
	n := &Node{}
	n.node.Name = name
	return n.Room("4", "8Gi", "110").Label(corev1.LabelHostname, name)
}

// Obj returns the Node.
func (n *Node) Obj() *keelsonv1.Node { return n.node.DeepCopy() }

// Room says what the Node has.
func (n *Node) Room(cpu, memory, pods string) *Node {
	n.node.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourcePods:   resource.MustParse(pods),
	}
	return n
}

// Has gives the Node some of a further resource.
func (n *Node) Has(name corev1.ResourceName, amount string) *Node {
	n.node.Status.Allocatable[name] = resource.MustParse(amount)
	return n
}

// Image gives the Node an image.
func (n *Node) Image(name string, size int64) *Node {
	n.node.Status.Images = append(n.node.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: size})
	return n
}

// Taint adds a taint without a value.
func (n *Node) Taint(key string, effect corev1.TaintEffect) *Node {
	n.node.Spec.Taints = append(n.node.Spec.Taints, corev1.Taint{Key: key, Effect: effect})
	return n
}

// Label sets one label.
func (n *Node) Label(key, value string) *Node {
	labels := maps.Clone(n.node.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	n.node.Labels = labels
	return n
}

// Unlabelled removes a label.
func (n *Node) Unlabelled(key string) *Node {
	n.node.Labels = maps.Clone(n.node.Labels)
	delete(n.node.Labels, key)
	return n
}

// Zone sets the label of the zone.
func (n *Node) Zone(zone string) *Node { return n.Label(corev1.LabelTopologyZone, zone) }

// Cordon makes the Node unschedulable.
func (n *Node) Cordon() *Node { n.node.Spec.Unschedulable = true; return n }

// Cluster is a cache with Nodes and Pods.
func Cluster(nodes []*keelsonv1.Node, pods ...*state.PodInfo) *state.Cache {
	c := state.NewCache()
	for _, node := range nodes {
		c.SetNode(node)
	}
	for _, pod := range pods {
		c.SetPod(pod)
	}
	return c
}

// Snapshot takes one of a cache that nobody else takes one of.
func Snapshot(c *state.Cache) *state.Snapshot {
	s := state.NewSnapshot()
	c.Update(s)
	return s
}

// SnapshotOf is a snapshot of a Cluster.
func SnapshotOf(nodes []*keelsonv1.Node, pods ...*state.PodInfo) *state.Snapshot {
	return Snapshot(Cluster(nodes, pods...))
}

// Nodes builds several Nodes.
func Nodes(nodes ...*Node) []*keelsonv1.Node {
	var built []*keelsonv1.Node
	for _, n := range nodes {
		built = append(built, n.Obj())
	}
	return built
}
