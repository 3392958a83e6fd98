package plugins

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	otherAffinity       = "node(s) didn't match Pod's node affinity/selector"
	otherAddedAffinity  = "node(s) didn't match scheduler-enforced node affinity"
	conflictingAffinity = "pod affinity terms conflict"
)

// nodeAffinity matches Nodes against node selectors and node affinity of the Pod, and
// against what the profile adds to them.
type nodeAffinity struct {
	added          *nodeaffinity.NodeSelector
	addedPreferred *nodeaffinity.PreferredSchedulingTerms
}

func newNodeAffinity(added *corev1.NodeAffinity) (*nodeAffinity, error) {
	p := &nodeAffinity{}
	if added == nil {
		return p, nil
	}
	var err error
	if required := added.RequiredDuringSchedulingIgnoredDuringExecution; required != nil {
		if p.added, err = nodeaffinity.NewNodeSelector(required); err != nil {
			return nil, fmt.Errorf("addedAffinity.requiredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	if preferred := added.PreferredDuringSchedulingIgnoredDuringExecution; len(preferred) > 0 {
		if p.addedPreferred, err = nodeaffinity.NewPreferredSchedulingTerms(preferred); err != nil {
			return nil, fmt.Errorf("addedAffinity.preferredDuringSchedulingIgnoredDuringExecution: %w", err)
		}
	}
	return p, nil
}

func (*nodeAffinity) Name() string { return NameNodeAffinity }

func (p *nodeAffinity) Prepare(pod *state.PodInfo, _ *state.Snapshot) (Check, *Rejection) {
	required := requiredNodeSelector(pod)
	if required == nil && len(pod.Pod.Spec.NodeSelector) == 0 && p.added == nil {
		return nil, nil
	}
	names, narrow := namedNodes(required)
	if narrow && len(names) == 0 {
		return nil, &Rejection{Plugin: NameNodeAffinity, Messages: []string{conflictingAffinity}, Unresolvable: true}
	}
	return &affinityCheck{
		pod: pod, added: p.added, names: names, narrow: narrow,
		refused:      &Rejection{Plugin: NameNodeAffinity, Messages: []string{otherAffinity}, Unresolvable: true},
		refusedAdded: &Rejection{Plugin: NameNodeAffinity, Messages: []string{otherAddedAffinity}, Unresolvable: true},
	}, nil
}

type affinityCheck struct {
	pod                   *state.PodInfo
	added                 *nodeaffinity.NodeSelector
	names                 []string
	narrow                bool
	refused, refusedAdded *Rejection
}

func (c *affinityCheck) Only() ([]string, bool) { return c.names, c.narrow }

func (c *affinityCheck) Node(node *state.NodeInfo) *Rejection {
	if c.added != nil && !c.added.Match(node.Node) {
		return c.refusedAdded
	}
	if !matchesNode(c.pod, node.Node) {
		return c.refused
	}
	return nil
}

// matchesNode counts a term that cannot be parsed as one that does not match.
func matchesNode(pod *state.PodInfo, node *corev1.Node) bool {
	matches, err := pod.NodeAffinity.Match(node)
	return matches && err == nil
}

func requiredNodeSelector(pod *state.PodInfo) *corev1.NodeSelector {
	affinity := pod.Pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil {
		return nil
	}
	return affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
}

// namedNodes are the Nodes that every term asks for by name; false when some term does
// not, so that any Node may match.
func namedNodes(required *corev1.NodeSelector) ([]string, bool) {
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		return nil, false
	}
	all := sets.New[string]()
	for _, term := range required.NodeSelectorTerms {
		var names sets.Set[string]
		for _, field := range term.MatchFields {
			if field.Key != metav1.ObjectNameField || field.Operator != corev1.NodeSelectorOpIn {
				continue
			}
			if names == nil {
				names = sets.New(field.Values...)
			} else {
				names = names.Intersection(sets.New(field.Values...))
			}
		}
		if names == nil {
			return nil, false
		}
		all = all.Union(names)
	}
	return sets.List(all), true
}

func (*nodeAffinity) Events() EventKind { return NodeAdded | NodeLabels }

func (p *nodeAffinity) Helps(pod *state.PodInfo, event *Event) bool {
	fits := func(node *corev1.Node) bool {
		return (p.added == nil || p.added.Match(node)) && matchesNode(pod, node)
	}
	return fits(event.NewNode) && (event.OldNode == nil || !fits(event.OldNode))
}

func (p *nodeAffinity) PrepareScore(pod *state.PodInfo, _ *state.Snapshot, _ []*state.NodeInfo) *Scorer {
	preferred := preferredNodes(pod)
	if preferred == nil && p.addedPreferred == nil {
		return nil
	}
	return &Scorer{
		Node: func(node *state.NodeInfo) int64 {
			var sum int64
			if p.addedPreferred != nil {
				sum += p.addedPreferred.Score(node.Node)
			}
			if preferred != nil {
				sum += preferred.Score(node.Node)
			}
			return sum
		},
		Normalize: func(scores []int64) { normalize(scores, false) },
	}
}

// preferredNodes is nil for a Pod without preferences. Terms that cannot be parsed are
// refused by admission and prefer nothing here.
func preferredNodes(pod *state.PodInfo) *nodeaffinity.PreferredSchedulingTerms {
	affinity := pod.Pod.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil || len(affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil
	}
	return terms
}
