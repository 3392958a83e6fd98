package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

const noNodes = "no nodes available to schedule pods"

// Refusal is why no Node fits.
type Refusal struct {
	// Nodes is how many there are.
	Nodes int
	// Preemption is what came of looking for Pods that could go, empty when nobody
	// looked.
	Preemption string

	// everywhere is a reason that holds for every Node.
	everywhere *plugins.Rejection
	refused    []nodeRefusal
	trial      *trial
}

// Message is the text of the condition and of the event, in upstream's form:
// "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable. preemption: …"
func (r *Refusal) Message() string {
	if r.Nodes == 0 {
		return noNodes
	}
	message := fmt.Sprintf("0/%d nodes are available:", r.Nodes)
	if r.everywhere != nil {
		message += fmt.Sprintf(" %s.", strings.Join(r.everywhere.Messages, ", "))
	} else if reasons := r.reasons(); len(reasons) > 0 {
		message += fmt.Sprintf(" %s.", histogram(reasons))
	}
	if r.Preemption != "" {
		message += " preemption: " + r.Preemption
	}
	return message
}

// reasons counts Nodes by what they lack; a Node may lack several things.
func (r *Refusal) reasons() map[string]int {
	reasons := map[string]int{}
	for _, refused := range r.refused {
		for _, message := range refused.why.Messages {
			reasons[message]++
		}
	}
	if absent := r.Nodes - len(r.refused); absent > 0 && r.trial != nil && r.trial.narrow {
		reasons[fmt.Sprintf("node(s) didn't satisfy plugin(s) %v", r.trial.narrowedBy)] += absent
	}
	return reasons
}

func histogram(reasons map[string]int) string {
	var parts []string
	for message, count := range reasons {
		parts = append(parts, fmt.Sprintf("%d %s", count, message))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Plugins are the names of those that refused, sorted.
func (r *Refusal) Plugins() []string {
	var names []string
	if r.everywhere != nil {
		names = append(names, r.everywhere.Plugin)
	}
	if r.trial != nil {
		names = append(names, r.trial.narrowedBy...)
	}
	for _, refused := range r.refused {
		names = append(names, refused.why.Plugin)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// of is what a Node lacks: nil when it was not looked at.
func (r *Refusal) of(node string) *plugins.Rejection {
	if r.everywhere != nil {
		return r.everywhere
	}
	for _, refused := range r.refused {
		if refused.node.Node.Name == node {
			return refused.why
		}
	}
	return nil
}
