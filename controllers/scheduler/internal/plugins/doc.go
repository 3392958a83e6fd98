// Package plugins holds the rules by which the scheduler chooses a Node, one type each,
// under upstream's names and with upstream's semantics, reasons and default weights.
//
// A plug-in judges one Pod at a time and is pure: it reads a snapshot and writes
// nothing, neither to the API nor to itself. What it computes for one Pod lives in the
// Check or Scorer that it returns. It keeps nothing that a crash could lose.
package plugins

import (
	"k8s.io/apimachinery/pkg/labels"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// MaxScore is the best that a plug-in may give; 0 is the worst.
const MaxScore = 100

// Rejection is why a Node, or every Node, cannot take a Pod.
type Rejection struct {
	// Plugin is the name of the one that says so.
	Plugin string
	// Messages are worded as upstream words them.
	Messages []string
	// Unresolvable says that no Pod's going would change it.
	Unresolvable bool
}

// Filter keeps Pods from Nodes.
type Filter interface {
	Name() string
	// Prepare looks at the cluster once for one Pod. Without a check every Node passes;
	// with a rejection none does.
	Prepare(pod *state.PodInfo, cluster *state.Snapshot) (Check, *Rejection)
	Waker
}

// Check judges one Node at a time, for the Pod that it was made for.
type Check interface {
	// Node returns nil when the Node can take the Pod.
	Node(node *state.NodeInfo) *Rejection
}

// Narrow is a Check that knows that only a few Nodes may pass.
type Narrow interface {
	Check
	// Only are names of Nodes; all others fail. False means any may pass.
	Only() ([]string, bool)
}

// Counting is a Check whose answer depends on Pods elsewhere than on the Node in
// question, so that trials must tell it of Pods that come and go.
type Counting interface {
	Check
	// Clone returns one that trials may change.
	Clone() Counting
	// Count adds (sign 1) or takes away (-1) a Pod of node.
	Count(pod *state.PodInfo, node *state.NodeInfo, sign int)
}

// Score ranks Nodes that passed all filters.
type Score interface {
	Name() string
	// PrepareScore looks at the cluster once for one Pod; feasible are the Nodes that
	// will be scored. Nil means no opinion.
	PrepareScore(pod *state.PodInfo, cluster *state.Snapshot, feasible []*state.NodeInfo) *Scorer
}

// Scorer ranks for the Pod that it was made for.
type Scorer struct {
	// Node returns a raw score.
	Node func(node *state.NodeInfo) int64
	// Normalize brings raw scores, in the order of the feasible Nodes, to 0…MaxScore.
	// Nil means that they are there already.
	Normalize func(scores []int64)
}

// Waker knows which events may help a Pod that the plug-in has refused.
type Waker interface {
	// Events are the kinds that may help at all.
	Events() EventKind
	// Helps tells whether this event, of one of those kinds, may make pod fit.
	Helps(pod *state.PodInfo, event *Event) bool
}

// Workloads finds what default spreading spreads by.
type Workloads interface {
	// Selector selects the Pods that serve with pod: by the Services that select it and
	// by the controller that owns it. It is empty when there are none.
	Selector(pod *state.PodInfo) labels.Selector
}

// normalize scales so that the highest becomes MaxScore; reverse turns best into worst.
func normalize(scores []int64, reverse bool) {
	var highest int64
	for _, score := range scores {
		highest = max(highest, score)
	}
	for i, score := range scores {
		switch {
		case highest > 0 && reverse:
			scores[i] = MaxScore - MaxScore*score/highest
		case highest > 0:
			scores[i] = MaxScore * score / highest
		case reverse:
			scores[i] = MaxScore
		}
	}
}
