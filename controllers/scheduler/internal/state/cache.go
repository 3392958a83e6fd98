package state

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Cache follows Nodes, the Pods that they hold, nominations and namespaces. An event
// changes one NodeInfo, whatever the number of Pods. Every method may be called from
// any goroutine.
type Cache struct {
	mu sync.Mutex
	// index finds a Node's place in nodes.
	index map[string]int
	nodes []*NodeInfo
	// dirty are the places that changed since the last Update, and isDirty says which those
	// are. Not a map: one that was large once is slow to walk and to clear ever after, and
	// every placement does both.
	dirty      []int
	isDirty    []bool
	generation uint64
	pods       map[types.UID]placedPod
	// homeless holds, for a Node that has not been seen (yet, or any more), the Pods
	// bound to it.
	homeless map[string]map[types.UID]struct{}

	// nominated are Pods that wait for their place on a Node, by Node.
	nominated        map[string][]*PodInfo
	nominatedNode    map[types.UID]string
	nominatedChanged bool

	namespaces        Namespaces
	namespacesChanged bool
}

type placedPod struct {
	node string
	info *PodInfo
	// assumed: placed by this scheduler, not yet seen bound.
	assumed bool
}

// NewCache returns an empty one.
func NewCache() *Cache {
	return &Cache{
		index:         map[string]int{},
		pods:          map[types.UID]placedPod{},
		homeless:      map[string]map[types.UID]struct{}{},
		nominated:     map[string][]*PodInfo{},
		nominatedNode: map[types.UID]string{},
		namespaces:    Namespaces{},
	}
}

// set stores a NodeInfo that nobody else has seen.
func (c *Cache) set(i int, info *NodeInfo) {
	c.generation++
	info.generation = c.generation
	c.nodes[i] = info
	c.markDirty(i)
}

func (c *Cache) markDirty(i int) {
	if missing := i + 1 - len(c.isDirty); missing > 0 {
		c.isDirty = append(c.isDirty, make([]bool, missing)...)
	}
	if !c.isDirty[i] {
		c.isDirty[i] = true
		c.dirty = append(c.dirty, i)
	}
}

// clean forgets what was dirty.
func (c *Cache) clean() {
	for _, i := range c.dirty {
		c.isDirty[i] = false
	}
	c.dirty = c.dirty[:0]
}

// SetNode stores a new or changed Node.
func (c *Cache) SetNode(node *keelsonv1.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, known := c.index[node.Name]; known {
		c.set(i, c.nodes[i].onNode(node))
		return
	}
	info := newNodeInfo(node)
	for uid := range c.homeless[node.Name] {
		info = info.withPod(c.pods[uid].info)
	}
	delete(c.homeless, node.Name)
	c.index[node.Name] = len(c.nodes)
	c.nodes = append(c.nodes, nil)
	c.set(len(c.nodes)-1, info)
}

// RemoveNode forgets a Node but not its Pods: it may come back before they go.
func (c *Cache) RemoveNode(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, known := c.index[name]
	if !known {
		return
	}
	for _, pod := range c.nodes[i].Pods {
		c.addHomeless(name, pod.Pod.UID)
	}
	delete(c.index, name)
	last := len(c.nodes) - 1
	if i != last {
		c.nodes[i] = c.nodes[last]
		c.index[c.nodes[i].Node.Name] = i
		c.markDirty(i)
	}
	c.nodes[last] = nil
	c.nodes = c.nodes[:last]
	c.markDirty(last)
}

// Node returns a Node as it was last seen, or nil.
func (c *Cache) Node(name string) *corev1.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	i, known := c.index[name]
	if !known {
		return nil
	}
	return c.nodes[i].Node
}

func (c *Cache) addHomeless(node string, uid types.UID) {
	if c.homeless[node] == nil {
		c.homeless[node] = map[types.UID]struct{}{}
	}
	c.homeless[node][uid] = struct{}{}
}

// SetPod stores a Pod that the API shows as bound.
func (c *Cache) SetPod(info *PodInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place(info, info.Pod.Spec.NodeName, false)
}

// Assume counts the Pod on node until SetPod, Forget or RemovePod decides.
func (c *Cache) Assume(info *PodInfo, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place(info, node, true)
}

func (c *Cache) place(info *PodInfo, node string, assumed bool) {
	uid := info.Pod.UID
	c.take(uid)
	c.unnominate(uid)
	c.pods[uid] = placedPod{node: node, info: info, assumed: assumed}
	i, known := c.index[node]
	if !known {
		c.addHomeless(node, uid)
		return
	}
	c.set(i, c.nodes[i].withPod(info))
}

// Forget takes an assumption back. It does nothing when the Pod was seen bound
// meanwhile.
func (c *Cache) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[uid].assumed {
		c.take(uid)
	}
}

// RemovePod forgets a Pod, assumed or bound, and returns it as it was counted, or nil.
func (c *Cache) RemovePod(uid types.UID) *PodInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unnominate(uid)
	return c.take(uid)
}

// IsAssumed tells whether the Pod was placed and not seen bound yet.
func (c *Cache) IsAssumed(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods[uid].assumed
}

func (c *Cache) take(uid types.UID) *PodInfo {
	placed, known := c.pods[uid]
	if !known {
		return nil
	}
	delete(c.pods, uid)
	if i, known := c.index[placed.node]; known {
		c.set(i, c.nodes[i].withoutPod(placed.info))
		return placed.info
	}
	delete(c.homeless[placed.node], uid)
	if len(c.homeless[placed.node]) == 0 {
		delete(c.homeless, placed.node)
	}
	return placed.info
}

// Nominate notes that a waiting Pod is to get its place on node, where others are going
// for it; an empty node takes that back.
func (c *Cache) Nominate(info *PodInfo, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unnominate(info.Pod.UID)
	if _, placed := c.pods[info.Pod.UID]; placed || node == "" {
		return
	}
	c.nominatedNode[info.Pod.UID] = node
	c.nominated[node] = append(slices.Clip(c.nominated[node]), info)
	c.nominatedChanged = true
}

func (c *Cache) unnominate(uid types.UID) {
	node, nominated := c.nominatedNode[uid]
	if !nominated {
		return
	}
	delete(c.nominatedNode, uid)
	rest := slices.DeleteFunc(slices.Clone(c.nominated[node]), func(p *PodInfo) bool { return p.Pod.UID == uid })
	if len(rest) == 0 {
		delete(c.nominated, node)
	} else {
		c.nominated[node] = rest
	}
	c.nominatedChanged = true
}

// NominatedNode is the Node that the Pod is to get, or empty.
func (c *Cache) NominatedNode(uid types.UID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nominatedNode[uid]
}

// SetNamespace stores the labels of a namespace.
func (c *Cache) SetNamespace(name string, set labels.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.namespaces[name]; ok && maps.Equal(known, set) {
		return
	}
	c.namespaces[name] = set
	c.namespacesChanged = true
}

// RemoveNamespace forgets a namespace.
func (c *Cache) RemoveNamespace(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.namespaces, name)
	c.namespacesChanged = true
}
