package plugins

import (
	"math"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// PrepareScore prefers domains with few like Pods. A constraint over many domains
// weighs more, since their counts are smaller.
func (p *podTopologySpread) PrepareScore(pod *state.PodInfo, cluster *state.Snapshot, feasible []*state.NodeInfo) *Scorer {
	constraints := p.constraints(pod, corev1.ScheduleAnyway)
	if len(constraints) == 0 {
		return nil
	}
	s := &spreadScore{
		constraints: constraints,
		sums:        make([]map[string]int64, len(constraints)),
		weights:     make([]float64, len(constraints)),
		ignored:     map[*state.NodeInfo]bool{},
		feasible:    feasible,
	}
	needsAll := len(pod.Pod.Spec.TopologySpreadConstraints) > 0 || !p.systemDefaults
	if needsAll {
		for _, node := range feasible {
			if !hasAllKeys(node.Node, constraints) {
				s.ignored[node] = true
			}
		}
	}
	for i := range constraints {
		if constraints[i].key == corev1.LabelHostname {
			s.countNodes(i, pod, cluster)
		} else {
			s.countDomains(i, pod, cluster, needsAll)
		}
	}
	return &Scorer{Node: s.score, Normalize: s.normalize}
}

type spreadScore struct {
	constraints []constraint
	// sums are counts of selected Pods by constraint and topology value.
	sums     []map[string]int64
	weights  []float64
	ignored  map[*state.NodeInfo]bool
	feasible []*state.NodeInfo
}

// countNodes counts for a constraint whose domains are single Nodes.
func (s *spreadScore) countNodes(i int, pod *state.PodInfo, cluster *state.Snapshot) {
	counts := s.constraints[i].counts(pod, cluster)
	s.weights[i] = math.Log(float64(len(s.feasible)-len(s.ignored)) + 2)
	s.sums[i] = map[string]int64{}
	for n, node := range cluster.Nodes() {
		if counts[n] > 0 {
			s.sums[i][node.Node.Name] = int64(counts[n])
		}
	}
}

// countDomains counts for the domains that some feasible Node is in.
func (s *spreadScore) countDomains(i int, pod *state.PodInfo, cluster *state.Snapshot, needsAll bool) {
	c := &s.constraints[i]
	sums := map[string]int64{}
	for _, node := range s.feasible {
		if !s.ignored[node] {
			sums[node.Node.Labels[c.key]] = 0
		}
	}
	s.sums[i], s.weights[i] = sums, math.Log(float64(len(sums))+2)
	for n, count := range c.counts(pod, cluster) {
		if count == 0 {
			continue
		}
		node := cluster.Nodes()[n].Node
		value := node.Labels[c.key]
		if _, candidate := sums[value]; !candidate || needsAll && !hasAllKeys(node, s.constraints) || !c.includes(pod, node) {
			continue
		}
		sums[value] += int64(count)
	}
}

func (s *spreadScore) score(node *state.NodeInfo) int64 {
	if s.ignored[node] {
		return 0
	}
	var score float64
	for i := range s.constraints {
		c := &s.constraints[i]
		value, has := node.Node.Labels[c.key]
		if !has {
			continue
		}
		if c.key == corev1.LabelHostname {
			value = node.Node.Name
		}
		score += float64(s.sums[i][value])*s.weights[i] + float64(c.maxSkew-1)
	}
	return int64(math.Round(score))
}

// normalize gives the emptiest domains MaxScore, and Nodes without a domain 0.
func (s *spreadScore) normalize(scores []int64) {
	lowest, highest := int64(math.MaxInt64), int64(0)
	for i, score := range scores {
		if !s.ignored[s.feasible[i]] {
			lowest, highest = min(lowest, score), max(highest, score)
		}
	}
	for i, score := range scores {
		switch {
		case s.ignored[s.feasible[i]]:
			scores[i] = 0
		case highest == 0:
			scores[i] = MaxScore
		default:
			scores[i] = MaxScore * (highest + lowest - score) / highest
		}
	}
}

// Events that may help a Pod refused for its constraints.
func (*podTopologySpread) Events() EventKind {
	return NodeAdded | NodeRemoved | NodeLabels | NodeTaints | PodPlaced | PodRelabelled | PodGone
}

// Helps looks at whether the event touches what the constraints count.
func (p *podTopologySpread) Helps(pod *state.PodInfo, event *Event) bool {
	constraints := p.constraints(pod, corev1.DoNotSchedule)
	switch event.Kind {
	case PodPlaced:
		return selectedByAny(constraints, pod, event.NewPod)
	case PodGone:
		return selectedByAny(constraints, pod, event.OldPod)
	case PodRelabelled:
		return relabelledFor(constraints, pod, event)
	case NodeAdded:
		return hasAllKeys(event.NewNode, constraints)
	case NodeRemoved:
		return hasAllKeys(event.OldNode, constraints)
	}
	now := hasAllKeys(event.NewNode, constraints)
	if now != hasAllKeys(event.OldNode, constraints) {
		return true
	}
	if !now {
		return false
	}
	if event.Kind == NodeTaints {
		return true
	}
	for i := range constraints {
		c := &constraints[i]
		if event.OldNode.Labels[c.key] != event.NewNode.Labels[c.key] ||
			c.includes(pod, event.OldNode) != c.includes(pod, event.NewNode) {
			return true
		}
	}
	return false
}

func selectedByAny(constraints []constraint, pod, other *state.PodInfo) bool {
	if pod.Pod.Namespace != other.Pod.Namespace {
		return false
	}
	for i := range constraints {
		if constraints[i].selector.Matches(other.Labels()) {
			return true
		}
	}
	return false
}

func relabelledFor(constraints []constraint, pod *state.PodInfo, event *Event) bool {
	if pod.Pod.Namespace != event.NewPod.Pod.Namespace {
		return false
	}
	for i := range constraints {
		s := constraints[i].selector
		if s.Matches(event.OldPod.Labels()) != s.Matches(event.NewPod.Labels()) {
			return true
		}
	}
	return false
}
