package plugins

import (
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	spreadUnmet        = "node(s) didn't match pod topology spread constraints"
	spreadLabelMissing = spreadUnmet + " (missing required label)"
)

// systemConstraints are upstream's for Pods that say nothing and serve with others.
func systemConstraints() []corev1.TopologySpreadConstraint {
	return []corev1.TopologySpreadConstraint{
		{TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 3},
		{TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, MaxSkew: 5},
	}
}

// podTopologySpread keeps the numbers of like Pods in zones, Nodes… near each other.
type podTopologySpread struct {
	// defaults are for Pods without constraints of their own; systemDefaults says that
	// they are not the administrator's, so that Nodes without their labels count too.
	defaults       []corev1.TopologySpreadConstraint
	systemDefaults bool
	workloads      Workloads
}

// constraint is one that applies to the Pod in question, parsed.
type constraint struct {
	key                         string
	maxSkew                     int64
	minDomains                  int64
	selector                    labels.Selector
	honourAffinity, honourTaint bool
}

func (*podTopologySpread) Name() string { return NamePodTopologySpread }

// constraints returns those of one kind that apply to the Pod.
func (p *podTopologySpread) constraints(pod *state.PodInfo, action corev1.UnsatisfiableConstraintAction) []constraint {
	own := pod.Pod.Spec.TopologySpreadConstraints
	if len(own) > 0 {
		return parseConstraints(own, pod, action, nil)
	}
	if !slices.ContainsFunc(p.defaults, func(c corev1.TopologySpreadConstraint) bool { return c.WhenUnsatisfiable == action }) {
		return nil
	}
	selector := p.workloads.Selector(pod)
	if selector.Empty() {
		return nil
	}
	return parseConstraints(p.defaults, pod, action, selector)
}

// parseConstraints uses selector for all of them unless it is nil.
func parseConstraints(all []corev1.TopologySpreadConstraint, pod *state.PodInfo, action corev1.UnsatisfiableConstraintAction, selector labels.Selector) []constraint {
	var parsed []constraint
	for i := range all {
		from := &all[i]
		if from.WhenUnsatisfiable != action {
			continue
		}
		c := constraint{
			key: from.TopologyKey, maxSkew: int64(from.MaxSkew), minDomains: 1,
			selector: selector, honourAffinity: true,
		}
		if selector == nil {
			c.selector = parseSelector(from.LabelSelector)
			c.selector = state.WithLabelKeys(c.selector, pod.Labels(), from.MatchLabelKeys, selection.In)
		}
		if from.MinDomains != nil {
			c.minDomains = int64(*from.MinDomains)
		}
		if from.NodeAffinityPolicy != nil {
			c.honourAffinity = *from.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor
		}
		if from.NodeTaintsPolicy != nil {
			c.honourTaint = *from.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor
		}
		parsed = append(parsed, c)
	}
	return parsed
}

// parseSelector reads a selector that admission let through; one that cannot be parsed
// selects nothing.
func parseSelector(selector *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

// includes tells whether a Node's Pods count for the constraint.
func (c *constraint) includes(pod *state.PodInfo, node *corev1.Node) bool {
	if c.honourAffinity && !matchesNode(pod, node) {
		return false
	}
	return !c.honourTaint || !untolerated(node, pod)
}

// selects tells whether a Pod of the same namespace counts.
func (c *constraint) selects(pod *state.PodInfo) bool {
	return !c.selector.Empty() && pod.Pod.DeletionTimestamp == nil && c.selector.Matches(pod.Labels())
}

// counts is how many Pods of each Node the constraint selects.
func (c *constraint) counts(pod *state.PodInfo, cluster *state.Snapshot) []int32 {
	namespace := pod.Pod.Namespace
	return cluster.Count("spread\x00"+namespace+"\x00"+c.selector.String(), func(other *state.PodInfo) bool {
		return other.Pod.Namespace == namespace && c.selects(other)
	})
}

func hasAllKeys(node *corev1.Node, constraints []constraint) bool {
	for i := range constraints {
		if _, has := node.Labels[constraints[i].key]; !has {
			return false
		}
	}
	return true
}

func (p *podTopologySpread) Prepare(pod *state.PodInfo, cluster *state.Snapshot) (Check, *Rejection) {
	constraints := p.constraints(pod, corev1.DoNotSchedule)
	if len(constraints) == 0 {
		return nil, nil
	}
	check := &spreadCheck{pod: pod, constraints: constraints, matches: make([]map[string]int64, len(constraints))}
	for i := range constraints {
		c := &constraints[i]
		counts := c.counts(pod, cluster)
		check.matches[i] = map[string]int64{}
		for n, node := range cluster.Nodes() {
			if hasAllKeys(node.Node, constraints) && c.includes(pod, node.Node) {
				check.matches[i][node.Node.Labels[c.key]] += int64(counts[n])
			}
		}
	}
	check.findLowest()
	return check, nil
}

// spreadCheck counts selected Pods by constraint and topology value.
type spreadCheck struct {
	pod         *state.PodInfo
	constraints []constraint
	matches     []map[string]int64
	// lowest is the least count of a constraint's values, 0 when there are fewer values
	// than it asks for.
	lowest []int64
}

func (s *spreadCheck) findLowest() {
	s.lowest = make([]int64, len(s.constraints))
	for i := range s.constraints {
		s.findLowestOf(i)
	}
}

func (s *spreadCheck) findLowestOf(i int) {
	if int64(len(s.matches[i])) < s.constraints[i].minDomains {
		s.lowest[i] = 0
		return
	}
	lowest := int64(math.MaxInt32)
	for _, count := range s.matches[i] {
		lowest = min(lowest, count)
	}
	s.lowest[i] = lowest
}

func (s *spreadCheck) Node(node *state.NodeInfo) *Rejection {
	for i := range s.constraints {
		c := &s.constraints[i]
		value, has := node.Node.Labels[c.key]
		if !has {
			return &Rejection{Plugin: NamePodTopologySpread, Messages: []string{spreadLabelMissing}, Unresolvable: true}
		}
		var self int64
		if c.selector.Matches(s.pod.Labels()) {
			self = 1
		}
		if s.matches[i][value]+self-s.lowest[i] > c.maxSkew {
			return &Rejection{Plugin: NamePodTopologySpread, Messages: []string{spreadUnmet}}
		}
	}
	return nil
}

func (s *spreadCheck) Clone() Counting {
	clone := *s
	clone.lowest = slices.Clone(s.lowest)
	clone.matches = make([]map[string]int64, len(s.matches))
	for i, counts := range s.matches {
		clone.matches[i] = maps.Clone(counts)
	}
	return &clone
}

func (s *spreadCheck) Count(pod *state.PodInfo, node *state.NodeInfo, sign int) {
	if pod.Pod.Namespace != s.pod.Pod.Namespace || !hasAllKeys(node.Node, s.constraints) {
		return
	}
	for i := range s.constraints {
		c := &s.constraints[i]
		if !c.selects(pod) || !c.includes(s.pod, node.Node) {
			continue
		}
		value := node.Node.Labels[c.key]
		before := s.matches[i][value]
		s.matches[i][value] = before + int64(sign)
		switch {
		case sign > 0 && before == s.lowest[i]:
			s.findLowestOf(i)
		case sign < 0 && int64(len(s.matches[i])) >= c.minDomains:
			s.lowest[i] = min(s.lowest[i], before+int64(sign))
		}
	}
}
