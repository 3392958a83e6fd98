package plugins

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// fit keeps Pods from Nodes without room for them, and ranks by the room that is left.
type fit struct {
	// ignored are extended resources, and groups of them, that somebody else looks after.
	ignored, ignoredGroups map[string]bool
	strategy               strategy
	resources              []weighted
}

func (*fit) Name() string { return NameNodeResourcesFit }

func (p *fit) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	scalars := p.wantedScalars(pod.Requests)
	return check(func(node *state.NodeInfo) *Rejection {
		return p.shortage(pod.Requests, scalars, node)
	}), nil
}

// wantedScalars are the uncommon resources to look at, in a stable order.
func (p *fit) wantedScalars(requests state.Amounts) []corev1.ResourceName {
	var names []corev1.ResourceName
	for name, value := range requests.Scalar {
		if value == 0 {
			continue
		}
		if isExtended(name) {
			group, _, _ := strings.Cut(string(name), "/")
			if p.ignored[string(name)] || p.ignoredGroups[group] {
				continue
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p *fit) shortage(need state.Amounts, scalars []corev1.ResourceName, node *state.NodeInfo) *Rejection {
	var short []string
	unresolvable := false
	if int64(len(node.Pods))+1 > node.AllowedPods {
		short = append(short, "Too many pods")
	}
	check := func(reason string, need, have, used int64) {
		if need > 0 && need > have-used {
			short = append(short, reason)
			unresolvable = unresolvable || need > have
		}
	}
	check("Insufficient cpu", need.MilliCPU, node.Allocatable.MilliCPU, node.Requested.MilliCPU)
	check("Insufficient memory", need.Memory, node.Allocatable.Memory, node.Requested.Memory)
	check("Insufficient ephemeral-storage", need.EphemeralStorage, node.Allocatable.EphemeralStorage, node.Requested.EphemeralStorage)
	for _, name := range scalars {
		check("Insufficient "+string(name), need.Scalar[name], node.Allocatable.Scalar[name], node.Requested.Scalar[name])
	}
	if len(short) == 0 {
		return nil
	}
	return &Rejection{Plugin: NameNodeResourcesFit, Messages: short, Unresolvable: unresolvable}
}

func (*fit) Events() EventKind { return NodeAdded | NodeAllocatable | PodGone | PodShrunk }

func (p *fit) Helps(pod *state.PodInfo, event *Event) bool {
	switch event.Kind {
	case PodGone:
		return true
	case PodShrunk:
		return anyLarger(pod.Requests, event.OldPod.Requests, event.NewPod.Requests)
	}
	now := state.Empty(event.NewNode)
	if p.shortage(pod.Requests, p.wantedScalars(pod.Requests), now) != nil {
		return false
	}
	if event.OldNode == nil {
		return true
	}
	before := state.Empty(event.OldNode)
	return now.AllowedPods > before.AllowedPods || anyLarger(pod.Requests, now.Allocatable, before.Allocatable)
}

// anyLarger tells whether a has more than b of anything that is asked for.
func anyLarger(asked, a, b state.Amounts) bool {
	if asked.MilliCPU > 0 && a.MilliCPU > b.MilliCPU || asked.Memory > 0 && a.Memory > b.Memory ||
		asked.EphemeralStorage > 0 && a.EphemeralStorage > b.EphemeralStorage {
		return true
	}
	for name, value := range asked.Scalar {
		if value > 0 && a.Scalar[name] > b.Scalar[name] {
			return true
		}
	}
	return false
}

func (p *fit) PrepareScore(pod *state.PodInfo, _ *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	return &Scorer{Node: func(node *state.NodeInfo) int64 {
		return p.strategy(p.resources, func(name corev1.ResourceName) (used, capacity int64) {
			return scoredUse(pod, node, name)
		})
	}}
}

// scoredUse is how much of a resource would be used with pod there. CPU and memory
// count with defaults for containers that ask for nothing. A capacity of 0 leaves the
// resource out: the Node has none, or it is an uncommon one that pod does not ask for.
func scoredUse(pod *state.PodInfo, node *state.NodeInfo, name corev1.ResourceName) (used, capacity int64) {
	switch name {
	case corev1.ResourceCPU:
		return node.Scored.MilliCPU + pod.Scored.MilliCPU, node.Allocatable.MilliCPU
	case corev1.ResourceMemory:
		return node.Scored.Memory + pod.Scored.Memory, node.Allocatable.Memory
	case corev1.ResourceEphemeralStorage:
	default:
		if pod.Requests.Scalar[name] == 0 {
			return 0, 0
		}
	}
	return node.Requested.Get(name) + pod.Requests.Get(name), node.Allocatable.Get(name)
}

// isExtended tells resources that somebody adds to Nodes from those of Kubernetes.
func isExtended(name corev1.ResourceName) bool {
	text := string(name)
	return strings.Contains(text, "/") && !strings.Contains(text, corev1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(text, corev1.DefaultResourceRequestsPrefix)
}
