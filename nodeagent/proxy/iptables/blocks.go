package iptables

import (
	"cmp"
	"slices"
	"strings"
)

// A large first load is written to the nft backend in blocks: iptables-nft-restore
// keeps the chain names of a transaction in a sorted list that it searches from the
// front, so that one transaction with 55,000 chains takes 45 s and blocks of this many
// rules, names descending, 5 s. All blocks but the last hold chains that nothing in
// force refers to yet; the last one puts them in force, so that the switch is atomic all
// the same.
const (
	blockRules = 2000
	blocksFrom = 4 * blockRules
)

// splitNew takes chains that the kernel does not have out of c.write and returns them
// in blocks, each after the chains that it refers to. It returns nil when there are too
// few for it to matter.
func splitNew(c *change, isNew func(name string) bool) [][]*wantedChain {
	var fresh []*wantedChain
	rules := 0
	for _, w := range c.write {
		if isNew(w.Name) {
			fresh = append(fresh, w)
			rules += len(w.Rules)
		}
	}
	if rules < blocksFrom {
		return nil
	}
	c.write = slices.DeleteFunc(c.write, func(w *wantedChain) bool { return isNew(w.Name) })
	depths := depthsOf(fresh)
	slices.SortFunc(fresh, func(a, b *wantedChain) int {
		return cmp.Or(cmp.Compare(depths[a.Name], depths[b.Name]), strings.Compare(b.Name, a.Name))
	})
	var blocks [][]*wantedChain
	size, depth := blockRules, -1
	for _, w := range fresh {
		if size >= blockRules || depths[w.Name] != depth {
			blocks = append(blocks, nil)
			size, depth = 0, depths[w.Name]
		}
		last := len(blocks) - 1
		blocks[last] = append(blocks[last], w)
		size += len(w.Rules)
	}
	return blocks
}

// depthsOf returns how many chains of the list may have to exist before each, following
// their jumps; the kernel allows no circles.
func depthsOf(chains []*wantedChain) map[string]int {
	byName := make(map[string]*wantedChain, len(chains))
	for _, w := range chains {
		byName[w.Name] = w
	}
	depths := make(map[string]int, len(chains))
	var visit func(w *wantedChain) int
	visit = func(w *wantedChain) int {
		if d, known := depths[w.Name]; known {
			return d
		}
		depths[w.Name] = 0
		deepest := 0
		for _, r := range w.Rules {
			if target := byName[targetOf(r.Action)]; target != nil {
				deepest = max(deepest, visit(target)+1)
			}
		}
		depths[w.Name] = deepest
		return deepest
	}
	for _, w := range chains {
		visit(w)
	}
	return depths
}
