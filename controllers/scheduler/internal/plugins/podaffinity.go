package plugins

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	podAffinityUnmet     = "node(s) didn't match pod affinity rules"
	podAntiAffinityUnmet = "node(s) didn't match pod anti-affinity rules"
	existingAntiAffinity = "node(s) didn't satisfy existing pods anti-affinity rules"
)

// domain is one value of one topology key: a zone, a Node.
type domain struct{ key, value string }

func domainOf(node *corev1.Node, key string) (domain, bool) {
	value, has := node.Labels[key]
	return domain{key, value}, has
}

// interPodAffinity brings Pods together and keeps them apart.
type interPodAffinity struct {
	// hardWeight is what a required term of a Pod that is there counts for a Pod that
	// it selects.
	hardWeight int64
	// ignoreExisting leaves preferences of Pods that are there out, for Pods that have
	// no preferences themselves.
	ignoreExisting bool
}

func (*interPodAffinity) Name() string { return NameInterPodAffinity }

func (p *interPodAffinity) Prepare(pod *state.PodInfo, cluster *state.Snapshot) (Check, *Rejection) {
	c := &podAffinityCheck{
		pod:      pod,
		cluster:  cluster,
		affinity: resolve(pod.RequiredAffinity, cluster.Namespaces()),
		anti:     resolve(pod.RequiredAntiAffinity, cluster.Namespaces()),
		existing: map[domain]int64{},
	}
	for term, uses := range cluster.Selecting(state.RequiredAntiAffinity, pod) {
		for node, count := range uses {
			if d, has := domainOf(node.Node, term.TopologyKey); has {
				c.existing[d] += count
			}
		}
	}
	if len(c.affinity)+len(c.anti)+len(c.existing) == 0 {
		return nil, nil
	}
	c.matching = countAllTerms(c.affinity, cluster)
	c.conflicting = map[domain]int64{}
	for _, term := range c.anti {
		addMatches(c.conflicting, []*state.Term{term}, termCounts(term, cluster), cluster)
	}
	return c, nil
}

func resolve(terms []*state.Term, namespaces state.Namespaces) []*state.Term {
	resolved := make([]*state.Term, 0, len(terms))
	for _, term := range terms {
		resolved = append(resolved, term.In(namespaces))
	}
	return resolved
}

// termCounts is how many Pods of each Node a resolved term selects.
func termCounts(term *state.Term, cluster *state.Snapshot) []int32 {
	return cluster.Count("term\x00"+term.Key, func(p *state.PodInfo) bool { return term.Matches(p, nil) })
}

// countAllTerms counts, in the domains of every term, the Pods that all terms select.
func countAllTerms(terms []*state.Term, cluster *state.Snapshot) map[domain]int64 {
	matching := map[domain]int64{}
	if len(terms) == 0 {
		return matching
	}
	key := "all"
	for _, term := range terms {
		key += "\x00\x00" + term.Key
	}
	counts := cluster.Count(key, func(p *state.PodInfo) bool { return matchesAll(terms, p) })
	addMatches(matching, terms, counts, cluster)
	return matching
}

func addMatches(sums map[domain]int64, terms []*state.Term, counts []int32, cluster *state.Snapshot) {
	nodes := cluster.Nodes()
	for i, count := range counts {
		if count == 0 {
			continue
		}
		for _, term := range terms {
			if d, has := domainOf(nodes[i].Node, term.TopologyKey); has {
				sums[d] += int64(count)
			}
		}
	}
}

func matchesAll(terms []*state.Term, pod *state.PodInfo) bool {
	if len(terms) == 0 {
		return false
	}
	return !slices.ContainsFunc(terms, func(t *state.Term) bool { return !t.Matches(pod, nil) })
}

func matchesAny(terms []*state.Term, pod *state.PodInfo) bool {
	return slices.ContainsFunc(terms, func(t *state.Term) bool { return t.Matches(pod, nil) })
}

// podAffinityCheck counts Pods by domain: those that the Pod wants to be with, those
// that it keeps away from, and those that keep away from it.
type podAffinityCheck struct {
	pod            *state.PodInfo
	cluster        *state.Snapshot
	affinity, anti []*state.Term

	matching, conflicting, existing map[domain]int64
}

func (c *podAffinityCheck) Node(node *state.NodeInfo) *Rejection {
	switch {
	case !c.withOthers(node.Node):
		return &Rejection{Plugin: NameInterPodAffinity, Messages: []string{podAffinityUnmet}, Unresolvable: true}
	case c.meetsConflicting(node.Node):
		return &Rejection{Plugin: NameInterPodAffinity, Messages: []string{podAntiAffinityUnmet}}
	case c.meetsExisting(node.Node):
		return &Rejection{Plugin: NameInterPodAffinity, Messages: []string{existingAntiAffinity}}
	}
	return nil
}

// withOthers tells whether every domain of the Node has a Pod that the terms select.
// The first of a group that wants to be together may go anywhere with those domains.
func (c *podAffinityCheck) withOthers(node *corev1.Node) bool {
	found := true
	for _, term := range c.affinity {
		d, has := domainOf(node, term.TopologyKey)
		if !has {
			return false
		}
		found = found && c.matching[d] > 0
	}
	return found || len(c.matching) == 0 && matchesAll(c.affinity, c.pod)
}

func (c *podAffinityCheck) meetsConflicting(node *corev1.Node) bool {
	for _, term := range c.anti {
		if d, has := domainOf(node, term.TopologyKey); has && c.conflicting[d] > 0 {
			return true
		}
	}
	return false
}

func (c *podAffinityCheck) meetsExisting(node *corev1.Node) bool {
	if len(c.existing) == 0 {
		return false
	}
	for key, value := range node.Labels {
		if c.existing[domain{key, value}] > 0 {
			return true
		}
	}
	return false
}

func (c *podAffinityCheck) Clone() Counting {
	clone := *c
	clone.matching, clone.conflicting, clone.existing = maps.Clone(c.matching), maps.Clone(c.conflicting), maps.Clone(c.existing)
	return &clone
}

func (c *podAffinityCheck) Count(pod *state.PodInfo, node *state.NodeInfo, sign int) {
	add := func(sums map[domain]int64, key string) {
		d, has := domainOf(node.Node, key)
		if !has {
			return
		}
		sums[d] += int64(sign)
		if sums[d] == 0 {
			delete(sums, d)
		}
	}
	if matchesAll(c.affinity, pod) {
		for _, term := range c.affinity {
			add(c.matching, term.TopologyKey)
		}
	}
	for _, term := range c.anti {
		if term.Matches(pod, nil) {
			add(c.conflicting, term.TopologyKey)
		}
	}
	labels := c.cluster.Namespaces()[c.pod.Pod.Namespace]
	for _, term := range pod.RequiredAntiAffinity {
		if term.Matches(c.pod, labels) {
			add(c.existing, term.TopologyKey)
		}
	}
}

func (p *interPodAffinity) PrepareScore(pod *state.PodInfo, cluster *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	own := len(pod.PreferredAffinity)+len(pod.PreferredAntiAffinity) > 0
	if p.ignoreExisting && !own {
		return nil
	}
	sums := map[domain]int64{}
	weigh := func(terms []*state.Term, sign int64) {
		for _, term := range resolve(terms, cluster.Namespaces()) {
			counts := map[domain]int64{}
			addMatches(counts, []*state.Term{term}, termCounts(term, cluster), cluster)
			for d, count := range counts {
				sums[d] += sign * term.Weight * count
			}
		}
	}
	weigh(pod.PreferredAffinity, 1)
	weigh(pod.PreferredAntiAffinity, -1)
	existing := func(kind state.TermKind, weight int64) {
		for term, uses := range cluster.Selecting(kind, pod) {
			for node, value := range uses {
				if d, has := domainOf(node.Node, term.TopologyKey); has {
					sums[d] += weight * value
				}
			}
		}
	}
	if p.hardWeight > 0 {
		existing(state.RequiredAffinity, p.hardWeight)
	}
	existing(state.PreferredAffinity, 1)
	existing(state.PreferredAntiAffinity, -1)
	if len(sums) == 0 {
		return nil
	}
	return &Scorer{Node: sumOfDomains(sums), Normalize: spreadOut}
}

func sumOfDomains(sums map[domain]int64) func(*state.NodeInfo) int64 {
	keys := map[string]bool{}
	for d := range sums {
		keys[d.key] = true
	}
	return func(node *state.NodeInfo) int64 {
		var sum int64
		for key := range keys {
			if d, has := domainOf(node.Node, key); has {
				sum += sums[d]
			}
		}
		return sum
	}
}

// spreadOut makes the lowest 0 and the highest MaxScore.
func spreadOut(scores []int64) {
	if len(scores) == 0 {
		return
	}
	lowest, highest := slices.Min(scores), slices.Max(scores)
	for i, score := range scores {
		scores[i] = 0
		if highest > lowest {
			scores[i] = int64(MaxScore * (float64(score-lowest) / float64(highest-lowest)))
		}
	}
}

func (*interPodAffinity) Events() EventKind {
	return NodeAdded | NodeLabels | PodPlaced | PodRelabelled | PodGone | NamespaceLabels
}

func (p *interPodAffinity) Helps(pod *state.PodInfo, event *Event) bool {
	switch event.Kind {
	case PodPlaced:
		return matchesAllAnywhere(pod.RequiredAffinity, event.NewPod)
	case PodRelabelled:
		return matchesAllAnywhere(pod.RequiredAffinity, event.NewPod) && !matchesAllAnywhere(pod.RequiredAffinity, event.OldPod) ||
			mayMatchAny(pod.RequiredAntiAffinity, event.OldPod) && !mustMatchAny(pod.RequiredAntiAffinity, event.NewPod)
	case PodGone:
		return mayMatchAny(pod.RequiredAntiAffinity, event.OldPod) || mayMatchAny(event.OldPod.RequiredAntiAffinity, pod)
	case NodeAdded, NodeLabels:
		return nodeHelpsAffinity(pod, event)
	}
	return true // the namespace may select or cease to select anybody
}

// The namespaces of terms are not resolved when an event comes: one with a selector of
// namespaces counts as selecting them all where a wrong no would make a Pod wait.
func matchesAllAnywhere(terms []*state.Term, pod *state.PodInfo) bool {
	return len(terms) > 0 && !slices.ContainsFunc(terms, func(t *state.Term) bool { return !t.MayMatch(pod) })
}

func mayMatchAny(terms []*state.Term, pod *state.PodInfo) bool {
	return slices.ContainsFunc(terms, func(t *state.Term) bool { return t.MayMatch(pod) })
}

func mustMatchAny(terms []*state.Term, pod *state.PodInfo) bool { return matchesAny(terms, pod) }

func nodeHelpsAffinity(pod *state.PodInfo, event *Event) bool {
	if event.OldNode == nil {
		if len(pod.RequiredAntiAffinity) > 0 || len(pod.RequiredAffinity) == 0 {
			return true
		}
		return slices.ContainsFunc(pod.RequiredAffinity, func(t *state.Term) bool {
			_, has := event.NewNode.Labels[t.TopologyKey]
			return has
		})
	}
	for _, term := range pod.RequiredAffinity {
		before, had := event.OldNode.Labels[term.TopologyKey]
		if now, has := event.NewNode.Labels[term.TopologyKey]; has && (!had || now != before) {
			return true
		}
	}
	for _, term := range pod.RequiredAntiAffinity {
		before, had := event.OldNode.Labels[term.TopologyKey]
		if now, has := event.NewNode.Labels[term.TopologyKey]; had && (!has || now != before) {
			return true
		}
	}
	// Pods there that keep away from this one may have come into another domain.
	return len(pod.RequiredAffinity)+len(pod.RequiredAntiAffinity) == 0
}
