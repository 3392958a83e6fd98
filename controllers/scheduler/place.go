package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// Placement is the decision about one Pod.
type Placement struct {
	// Node is the chosen one, empty when none fits.
	Node string
	// Refusal says why none fits.
	Refusal *Refusal
}

// Refusal collects why no Node fits.
type Refusal struct {
	// Nodes is how many there are.
	Nodes int
	// Reasons counts Nodes by what they lack; a Node may lack several things.
	Reasons map[string]int
	// Filters are the names of the filters that refused.
	Filters []string
	// helpedBy are the changes after which the answer may be another one.
	helpedBy change
}

// Message is the text of the condition and of the event, in upstream's form:
// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable."
func (r *Refusal) Message() string {
	if r.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	var parts []string
	for message, count := range r.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", count, message))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", r.Nodes, strings.Join(parts, ", "))
}

// planner decides where a Pod goes.
type planner struct {
	filters []Filter
	scores  []Score
	rand    *rand.Rand
}

// plan filters, scores and picks; equals are drawn by lot.
func (p *planner) plan(pod *PodInfo, snapshot Snapshot) Placement {
	refusal := &Refusal{Nodes: len(snapshot.Nodes()), Reasons: map[string]int{}}
	refused := make([]bool, len(p.filters))
	var chosen *NodeInfo
	var best, equals int64
	for _, node := range snapshot.Nodes() {
		if filter, why := p.firstRefusal(pod, node); why != nil {
			refused[filter] = true
			for _, message := range why.Messages {
				refusal.Reasons[message]++
			}
			continue
		}
		score := p.score(pod, node)
		switch {
		case chosen == nil || score > best:
			chosen, best, equals = node, score, 1
		case score == best:
			equals++
			// Each of n equals ends up chosen with probability 1/n.
			if p.rand.Int64N(equals) == 0 {
				chosen = node
			}
		}
	}
	if chosen != nil {
		return Placement{Node: chosen.Node.Name}
	}
	refusal.helpedBy = nodeAdded
	for i, did := range refused {
		if did {
			refusal.Filters = append(refusal.Filters, p.filters[i].Name)
			refusal.helpedBy |= p.filters[i].helpedBy
		}
	}
	return Placement{Refusal: refusal}
}

func (p *planner) firstRefusal(pod *PodInfo, node *NodeInfo) (int, *Reason) {
	for i := range p.filters {
		if why := p.filters[i].Filter(pod, node); why != nil {
			return i, why
		}
	}
	return 0, nil
}

func (p *planner) score(pod *PodInfo, node *NodeInfo) int64 {
	var sum int64
	for i := range p.scores {
		sum += p.scores[i].Weight * p.scores[i].Score(pod, node)
	}
	return sum
}

func tolerates(pod *PodInfo, taint *corev1.Taint) bool {
	return corev1helpers.TolerationsTolerateTaint(klog.Background(), pod.Pod.Spec.Tolerations, taint, true)
}
