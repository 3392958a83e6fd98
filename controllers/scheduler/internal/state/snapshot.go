package state

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Snapshot is the cluster at one moment. It belongs to one goroutine and one Cache, and
// changes only in Update; NodeInfos and maps that it hands out must not be changed.
type Snapshot struct {
	nodes []*NodeInfo
	index map[string]int
	// order are the places of nodes with their zones in turn, so that looking at a part
	// of them looks at every zone.
	order      []int
	orderStale bool

	terms  [numTermKinds]termIndex
	images map[string]int // Nodes that have an image, by its name
	counts counts

	nominated  map[string][]*PodInfo
	namespaces Namespaces
}

// NewSnapshot returns an empty one.
func NewSnapshot() *Snapshot {
	s := &Snapshot{index: map[string]int{}, images: map[string]int{}, namespaces: Namespaces{}, counts: newCounts()}
	for kind := range s.terms {
		s.terms[kind] = termIndex{}
	}
	return s
}

// Update makes s what c is now.
func (c *Cache) Update(s *Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range c.dirty {
		if i < len(s.nodes) && s.nodes[i] != nil {
			s.drop(i)
		}
	}
	if len(s.nodes) != len(c.nodes) {
		s.orderStale = true
		s.nodes = resize(s.nodes, len(c.nodes))
	}
	for _, i := range c.dirty {
		if i < len(c.nodes) {
			s.put(i, c.nodes[i])
		}
	}
	c.clean()
	if c.nominatedChanged {
		s.nominated, c.nominatedChanged = maps.Clone(c.nominated), false
	}
	if c.namespacesChanged {
		s.namespaces, c.namespacesChanged = maps.Clone(c.namespaces), false
	}
}

func resize(nodes []*NodeInfo, length int) []*NodeInfo {
	if length <= len(nodes) {
		clear(nodes[length:])
		return nodes[:length]
	}
	return append(nodes, make([]*NodeInfo, length-len(nodes))...)
}

func (s *Snapshot) drop(i int) {
	old := s.nodes[i]
	s.countTerms(i, old, -1)
	s.countImages(old, -1)
	if s.index[old.Node.Name] == i {
		delete(s.index, old.Node.Name)
	}
	// Kept in its place for put, which compares zones.
}

func (s *Snapshot) put(i int, info *NodeInfo) {
	if old := s.nodes[i]; old == nil || zone(old.Node) != zone(info.Node) {
		s.orderStale = true
	}
	s.nodes[i] = info
	s.index[info.Node.Name] = i
	s.countTerms(i, info, 1)
	s.countImages(info, 1)
}

func (s *Snapshot) countImages(info *NodeInfo, sign int) {
	for name := range info.Images {
		if s.images[name] += sign; s.images[name] == 0 {
			delete(s.images, name)
		}
	}
}

// NodesWithImage is how many Nodes have an image of that name.
func (s *Snapshot) NodesWithImage(name string) int { return s.images[name] }

// Len is the number of Nodes.
func (s *Snapshot) Len() int { return len(s.nodes) }

// Nodes returns the Nodes by their places, in no particular order.
func (s *Snapshot) Nodes() []*NodeInfo { return s.nodes }

// Node returns a Node by its name, or nil.
func (s *Snapshot) Node(name string) *NodeInfo {
	if i, known := s.index[name]; known {
		return s.nodes[i]
	}
	return nil
}

// Nominated are the Pods that wait for a place on the Node.
func (s *Snapshot) Nominated(node string) []*PodInfo { return s.nominated[node] }

// Namespaces are the labels of all namespaces.
func (s *Snapshot) Namespaces() Namespaces { return s.namespaces }

// InOrder returns the Node at position i of an order that takes zones in turn.
func (s *Snapshot) InOrder(i int) *NodeInfo {
	if s.orderStale {
		s.order, s.orderStale = zoneOrder(s.nodes), false
	}
	return s.nodes[s.order[i]]
}

func zoneOrder(nodes []*NodeInfo) []int {
	var zones []string
	byZone := map[string][]int{}
	for i, info := range nodes {
		z := zone(info.Node)
		if _, known := byZone[z]; !known {
			zones = append(zones, z)
		}
		byZone[z] = append(byZone[z], i)
	}
	slices.SortFunc(zones, strings.Compare)
	order := make([]int, 0, len(nodes))
	for round := 0; len(order) < len(nodes); round++ {
		for _, z := range zones {
			if round < len(byZone[z]) {
				order = append(order, byZone[z][round])
			}
		}
	}
	return order
}

func zone(node *corev1.Node) string {
	return node.Labels[corev1.LabelTopologyRegion] + "\x00" + node.Labels[corev1.LabelTopologyZone]
}
