package planner

import (
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// trial is the checks made for one Pod.
type trial struct {
	pod     *state.PodInfo
	cluster *state.Snapshot
	checks  []plugins.Check
	// only are the Nodes that may pass, when some check knows.
	only   []string
	narrow bool
	// narrowedBy are the plug-ins that know.
	narrowedBy []string
}

// Plan finds the best Node for pod among those that pass every filter.
func (p *Planner) Plan(pod *state.PodInfo, cluster *state.Snapshot) Placement {
	refusal := &Refusal{Nodes: cluster.Len()}
	if refusal.Nodes == 0 {
		return Placement{Refusal: refusal}
	}
	t, rejection := p.prepare(pod, cluster)
	if rejection != nil {
		refusal.everywhere = rejection
		return Placement{Refusal: refusal}
	}
	refusal.trial = t
	// The Node that Pods went from for this one is most likely the only choice.
	if node := cluster.Node(pod.Pod.Status.NominatedNodeName); node != nil && t.node(node) == nil {
		return Placement{Node: node.Node.Name}
	}
	feasible := p.feasible(t, refusal)
	switch len(feasible) {
	case 0:
		return Placement{Refusal: refusal}
	case 1:
		return Placement{Node: feasible[0].Node.Name}
	}
	return Placement{Node: p.best(pod, cluster, feasible).Node.Name}
}

func (p *Planner) prepare(pod *state.PodInfo, cluster *state.Snapshot) (*trial, *plugins.Rejection) {
	t := &trial{pod: pod, cluster: cluster, checks: make([]plugins.Check, 0, len(p.Profile.Filters))}
	for _, filter := range p.Profile.Filters {
		check, rejection := filter.Prepare(pod, cluster)
		if rejection != nil {
			return nil, rejection
		}
		if check == nil {
			continue
		}
		t.checks = append(t.checks, check)
		if n, ok := check.(plugins.Narrow); ok {
			if only, narrow := n.Only(); narrow {
				t.only, t.narrow = only, true
				t.narrowedBy = append(t.narrowedBy, filter.Name())
			}
		}
	}
	return t, nil
}

// feasible collects Nodes that pass, at most as many as are worth ranking.
func (p *Planner) feasible(t *trial, refusal *Refusal) []*state.NodeInfo {
	all, at := t.candidates()
	enough := p.enough(all)
	feasible := make([]*state.NodeInfo, 0, enough)
	looked := 0
	for i := range all {
		node := at((p.next + i) % all)
		looked++
		if why := t.node(node); why != nil {
			refusal.refused = append(refusal.refused, nodeRefusal{node, why})
			continue
		}
		if feasible = append(feasible, node); len(feasible) == enough {
			break
		}
	}
	p.next = (p.next + looked) % refusal.Nodes
	return feasible
}

// candidates are how many Nodes may pass, and each of them.
func (t *trial) candidates() (all int, at func(int) *state.NodeInfo) {
	if !t.narrow {
		return t.cluster.Len(), t.cluster.InOrder
	}
	nodes := make([]*state.NodeInfo, 0, len(t.only))
	for _, name := range t.only {
		if node := t.cluster.Node(name); node != nil {
			nodes = append(nodes, node)
		}
	}
	return len(nodes), func(i int) *state.NodeInfo { return nodes[i] }
}

const (
	// fewNodes are always all looked at; upstream's number.
	fewNodes = 100
	// leastPercentage is where the share of Nodes to rank stops to shrink.
	leastPercentage = 5
)

// enough is the number of Nodes that are worth ranking, of all.
func (p *Planner) enough(all int) int {
	if len(p.Profile.Scores) == 0 {
		return 1
	}
	if all < fewNodes {
		return all
	}
	percentage := p.Profile.PercentageOfNodesToScore
	if percentage == 0 {
		percentage = max(50-all/125, leastPercentage)
	}
	return min(max(all*percentage/100, fewNodes), all)
}

// node tells why a Node cannot take the Pod, counting Pods of equal or higher priority
// that wait for a place there as if they had it; and, since others may depend on what
// they might never get, also without them.
func (t *trial) node(node *state.NodeInfo) *plugins.Rejection {
	checks, with := t.withNominated(node)
	if with != node {
		if why := first(checks, with); why != nil {
			return why
		}
	}
	return first(t.checks, node)
}

func (t *trial) withNominated(node *state.NodeInfo) ([]plugins.Check, *state.NodeInfo) {
	checks, with := t.checks, node
	for _, waiting := range t.cluster.Nominated(node.Node.Name) {
		if waiting.Pod.UID == t.pod.Pod.UID || waiting.Priority() < t.pod.Priority() {
			continue
		}
		if with == node {
			checks = cloneChecks(t.checks)
		}
		with = with.With(waiting)
		count(checks, waiting, node, 1)
	}
	return checks, with
}

func first(checks []plugins.Check, node *state.NodeInfo) *plugins.Rejection {
	for _, check := range checks {
		if why := check.Node(node); why != nil {
			return why
		}
	}
	return nil
}

func cloneChecks(checks []plugins.Check) []plugins.Check {
	clones := make([]plugins.Check, len(checks))
	for i, check := range checks {
		if counting, ok := check.(plugins.Counting); ok {
			clones[i] = counting.Clone()
		} else {
			clones[i] = check
		}
	}
	return clones
}

func count(checks []plugins.Check, pod *state.PodInfo, node *state.NodeInfo, sign int) {
	for _, check := range checks {
		if counting, ok := check.(plugins.Counting); ok {
			counting.Count(pod, node, sign)
		}
	}
}

// best adds up weighted scores; equals are drawn by lot.
func (p *Planner) best(pod *state.PodInfo, cluster *state.Snapshot, feasible []*state.NodeInfo) *state.NodeInfo {
	totals := make([]int64, len(feasible))
	raw := make([]int64, len(feasible))
	for _, score := range p.Profile.Scores {
		scorer := score.Plugin.PrepareScore(pod, cluster, feasible)
		if scorer == nil {
			continue
		}
		for i, node := range feasible {
			raw[i] = scorer.Node(node)
		}
		if scorer.Normalize != nil {
			scorer.Normalize(raw)
		}
		for i := range raw {
			totals[i] += score.Weight * raw[i]
		}
	}
	chosen, equals := 0, int64(1)
	for i := 1; i < len(totals); i++ {
		switch {
		case totals[i] > totals[chosen]:
			chosen, equals = i, 1
		case totals[i] == totals[chosen]:
			equals++
			// Each of n equals ends up chosen with probability 1/n.
			if p.Rand.Int64N(equals) == 0 {
				chosen = i
			}
		}
	}
	return feasible[chosen]
}
