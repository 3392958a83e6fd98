package state

// keptCounts bounds the questions whose answers are remembered. Pods come in groups of
// one template, so that few questions are asked many times.
const keptCounts = 128

// counts remembers how many Pods of each Node answer to a question. A Node that changed
// is counted again, the others are not.
type counts struct {
	known map[string]*countedNodes
	clock uint64
}

type countedNodes struct {
	// generations are those of the NodeInfos counted.
	generations []uint64
	counts      []int32
	used        uint64
}

func newCounts() counts { return counts{known: map[string]*countedNodes{}} }

// Count returns, by the places of Nodes, how many of their Pods matches says yes to.
// Equal keys must mean equal answers. The result is good until the next call.
func (s *Snapshot) Count(key string, matches func(*PodInfo) bool) []int32 {
	s.counts.clock++
	entry := s.counts.known[key]
	if entry == nil {
		s.counts.makeRoom()
		entry = &countedNodes{}
		s.counts.known[key] = entry
	}
	entry.used = s.counts.clock
	if missing := len(s.nodes) - len(entry.counts); missing > 0 {
		entry.generations = append(entry.generations, make([]uint64, missing)...)
		entry.counts = append(entry.counts, make([]int32, missing)...)
	}
	for i, info := range s.nodes {
		if entry.generations[i] != info.generation {
			entry.generations[i], entry.counts[i] = info.generation, info.count(matches)
		}
	}
	return entry.counts[:len(s.nodes)]
}

func (n *NodeInfo) count(matches func(*PodInfo) bool) int32 {
	var count int32
	for _, pod := range n.Pods {
		if matches(pod) {
			count++
		}
	}
	return count
}

// makeRoom forgets the answer that was asked for longest ago.
func (c *counts) makeRoom() {
	if len(c.known) < keptCounts {
		return
	}
	var oldest string
	least := c.clock + 1
	for key, entry := range c.known {
		if entry.used < least {
			oldest, least = key, entry.used
		}
	}
	delete(c.known, oldest)
}
