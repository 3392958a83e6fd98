package plugins

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// EventKind is a set of things that happen and that may make a waiting Pod fit.
type EventKind uint16

// The kinds of events.
const (
	NodeAdded EventKind = 1 << iota
	NodeRemoved
	// NodeTaints: taints or cordon.
	NodeTaints
	NodeLabels
	NodeAllocatable
	// PodPlaced: a Pod was seen bound.
	PodPlaced
	// PodRelabelled: a bound Pod has other labels.
	PodRelabelled
	// PodShrunk: a bound Pod takes less.
	PodShrunk
	// PodGone: a bound Pod ended or was deleted.
	PodGone
	// NamespaceLabels: a namespace is new or has other labels.
	NamespaceLabels
)

// EventKinds is the number of kinds.
const EventKinds = 10

// Event is one change. Only what its kinds mean is set.
type Event struct {
	Kind             EventKind
	OldNode, NewNode *corev1.Node
	OldPod, NewPod   *state.PodInfo
}

// always is a Waker's part for those that every event of their kinds may help.
type always struct{ kinds EventKind }

func (a always) Events() EventKind               { return a.kinds }
func (always) Helps(*state.PodInfo, *Event) bool { return true }

// AnyNewNode is for a Pod that was refused because there is no Node.
func AnyNewNode() Waker { return always{NodeAdded} }
