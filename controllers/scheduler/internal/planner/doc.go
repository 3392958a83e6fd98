// Package planner decides where one Pod goes: onto which Node, or at the cost of which
// other Pods, or nowhere and why. It only computes; carrying a decision out is for its
// caller. The one thing it remembers is where in the list of Nodes it stopped looking,
// which a crash may lose.
package planner

import (
	"math/rand/v2"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// Planner places the Pods of one profile. It is for one goroutine.
type Planner struct {
	Profile plugins.Profile
	// Rand breaks ties between equal Nodes.
	Rand *rand.Rand

	// next is where in the order of Nodes the next search starts, so that all of them
	// have their turn when a part is enough.
	next int
}

// Placement is the decision about one Pod.
type Placement struct {
	// Node is the chosen one, empty when none fits.
	Node string
	// Refusal says why none fits.
	Refusal *Refusal
}

// nodeRefusal is what one Node lacks.
type nodeRefusal struct {
	node *state.NodeInfo
	why  *plugins.Rejection
}
