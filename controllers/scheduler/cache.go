package scheduler

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodeCache follows Nodes and bound Pods. An event changes one NodeInfo, whatever
// the number of Pods; a snapshot copies one pointer per Node, and only after an
// event.
type nodeCache struct {
	mu sync.Mutex
	// index finds a Node's place in nodes.
	index map[string]int
	nodes []*NodeInfo
	// shared says that a snapshot holds the backing array of nodes.
	shared bool
	pods   map[types.UID]placedPod
	// homeless holds, for a Node that has not been seen (yet, or any more), the Pods
	// bound to it.
	homeless map[string]map[types.UID]struct{}
}

type placedPod struct {
	node  string
	usage usage
	// assumed: placed by this scheduler, not yet seen bound.
	assumed bool
}

func newNodeCache() *nodeCache {
	return &nodeCache{
		index:    map[string]int{},
		pods:     map[types.UID]placedPod{},
		homeless: map[string]map[types.UID]struct{}{},
	}
}

// snapshot returns the present state.
func (c *nodeCache) snapshot() Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared = true
	return Snapshot{nodes: slices.Clip(c.nodes)}
}

// own makes nodes safe to write: a snapshot keeps the old array.
func (c *nodeCache) own() {
	if c.shared {
		c.nodes = slices.Clone(c.nodes)
		c.shared = false
	}
}

// setNode stores a new or changed Node.
func (c *nodeCache) setNode(node *keelsonv1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own()
	if i, known := c.index[node.Name]; known {
		c.nodes[i] = c.nodes[i].withNode(node)
		return
	}
	info := newNodeInfo(node)
	for uid := range c.homeless[node.Name] {
		info = info.withPod(c.pods[uid].usage)
	}
	delete(c.homeless, node.Name)
	c.index[node.Name] = len(c.nodes)
	c.nodes = append(c.nodes, info)
}

// removeNode forgets a Node but not its Pods: it may come back before they go.
func (c *nodeCache) removeNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, known := c.index[name]
	if !known {
		return
	}
	c.own()
	last := len(c.nodes) - 1
	c.nodes[i] = c.nodes[last]
	c.index[c.nodes[i].Node.Name] = i
	c.nodes = c.nodes[:last]
	delete(c.index, name)
	for uid, placed := range c.pods {
		if placed.node == name {
			c.addHomeless(name, uid)
		}
	}
}

func (c *nodeCache) addHomeless(node string, uid types.UID) {
	if c.homeless[node] == nil {
		c.homeless[node] = map[types.UID]struct{}{}
	}
	c.homeless[node][uid] = struct{}{}
}

// setPod stores a Pod that the API shows as bound.
func (c *nodeCache) setPod(info *PodInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place(info, info.Pod.Spec.NodeName, false)
}

// assume counts the Pod on node until setPod, forget or removePod decides.
func (c *nodeCache) assume(info *PodInfo, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place(info, node, true)
}

func (c *nodeCache) place(info *PodInfo, node string, assumed bool) {
	uid := info.Pod.UID
	c.take(uid)
	placed := placedPod{node: node, usage: info.usage(), assumed: assumed}
	c.pods[uid] = placed
	i, known := c.index[node]
	if !known {
		c.addHomeless(node, uid)
		return
	}
	c.own()
	c.nodes[i] = c.nodes[i].withPod(placed.usage)
}

// forget takes an assumption back. It does nothing when the Pod was seen bound
// meanwhile.
func (c *nodeCache) forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[uid].assumed {
		c.take(uid)
	}
}

// removePod forgets a Pod, assumed or bound, and tells whether it held anything.
func (c *nodeCache) removePod(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.take(uid)
}

func (c *nodeCache) take(uid types.UID) bool {
	placed, known := c.pods[uid]
	if !known {
		return false
	}
	delete(c.pods, uid)
	if i, known := c.index[placed.node]; known {
		c.own()
		c.nodes[i] = c.nodes[i].withoutPod(placed.usage)
		return true
	}
	delete(c.homeless[placed.node], uid)
	if len(c.homeless[placed.node]) == 0 {
		delete(c.homeless, placed.node)
	}
	return true
}
