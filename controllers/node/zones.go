package node

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/node/topology"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Rates bound how fast the Pods of silent nodes are sent away: by how fast nodes get
// their taints of effect NoExecute. Defaults and meaning are upstream's.
type Rates struct {
	// Eviction is nodes per second and zone; Secondary is that of a large zone of which a
	// part is silent.
	Eviction, Secondary float64
	// UnhealthyZone is the share of silent nodes from which on a zone is in trouble.
	UnhealthyZone float64
	// LargeCluster is the number of nodes of a zone up to which Secondary is 0.
	LargeCluster int
}

// DefaultRates are upstream's.
func DefaultRates() Rates {
	return Rates{Eviction: 0.1, Secondary: 0.01, UnhealthyZone: 0.55, LargeCluster: 50}
}

// zone is the nodes of one zone.
type zone struct {
	name            string
	ready, notReady int
	waiting         []*keelsonv1.Node // have no taint of effect NoExecute yet
}

// taintPlan is what one look at all nodes leads to.
type taintPlan struct {
	// set are the nodes whose taints of effect NoExecute change at once.
	set map[string][]corev1.Taint
	// last is when each zone has lost a node last.
	last map[string]time.Time
	// next is when the next node's turn comes; 0 when none waits for it.
	next time.Duration
}

// planNoExecute gives silent nodes the taint that sends their Pods away, zone by zone and
// not faster than the rates, and takes it off nodes that are back. When no node at all is
// ready, the fault is more likely here: nobody is sent away.
func planNoExecute(nodes []*keelsonv1.Node, last map[string]time.Time, rates Rates, now time.Time) taintPlan {
	zones, anyReady := zonesOf(nodes)
	plan := taintPlan{set: corrections(nodes, anyReady, now), last: map[string]time.Time{}}
	for _, z := range zones {
		if at, ok := last[z.name]; ok {
			plan.last[z.name] = at
		}
		rate := z.rate(rates)
		if !anyReady || rate <= 0 || len(z.waiting) == 0 {
			continue
		}
		period := time.Duration(float64(time.Second) / rate)
		due := now
		if at, ok := last[z.name]; ok {
			due = at.Add(period)
		}
		if !due.After(now) {
			node := z.waiting[0]
			plan.set[node.Name] = withNoExecute(node.Spec.Taints, wantedNoExecute(node), now)
			plan.last[z.name] = now
			z.waiting, due = z.waiting[1:], now.Add(period)
		}
		if wait := max(due.Sub(now), time.Millisecond); len(z.waiting) > 0 && (plan.next == 0 || wait < plan.next) {
			plan.next = wait
		}
	}
	return plan
}

// corrections are the changes of nodes that have the taint: those that are back, or that
// nobody shall leave, lose it, and it says the right thing.
func corrections(nodes []*keelsonv1.Node, anyReady bool, now time.Time) map[string][]corev1.Taint {
	set := map[string][]corev1.Taint{}
	for _, node := range nodes {
		if !slices.ContainsFunc(node.Spec.Taints, isOurNoExecute) {
			continue
		}
		want := wantedNoExecute(node)
		if !anyReady {
			want = ""
		}
		if want == "" || !hasNoExecute(node, want) {
			set[node.Name] = withNoExecute(node.Spec.Taints, want, now)
		}
	}
	return set
}

// zonesOf sorts the nodes into their zones; those that wait come in the order in which
// they went silent.
func zonesOf(nodes []*keelsonv1.Node) (zones []*zone, anyReady bool) {
	byName := map[string]*zone{}
	for _, node := range nodes {
		name := topology.GetZoneKey(node.Upstream())
		z := byName[name]
		if z == nil {
			z = &zone{name: name}
			byName[name] = z
			zones = append(zones, z)
		}
		if ready(&node.Status) == corev1.ConditionTrue && find(&node.Status, corev1.NodeReady) != nil {
			z.ready++
			anyReady = true
			continue
		}
		z.notReady++
		if wantedNoExecute(node) != "" && !slices.ContainsFunc(node.Spec.Taints, isOurNoExecute) {
			z.waiting = append(z.waiting, node)
		}
	}
	for _, z := range zones {
		slices.SortFunc(z.waiting, func(a, b *keelsonv1.Node) int {
			return cmp.Or(silentSince(a).Compare(silentSince(b)), cmp.Compare(a.Name, b.Name))
		})
	}
	return zones, anyReady
}

func silentSince(node *keelsonv1.Node) time.Time {
	if condition := find(&node.Status, corev1.NodeReady); condition != nil {
		return condition.LastTransitionTime.Time
	}
	return time.Time{}
}

// rate is how many nodes per second the zone may lose.
func (z *zone) rate(rates Rates) float64 {
	all := z.ready + z.notReady
	troubled := z.ready > 0 && z.notReady > 2 && float64(z.notReady)/float64(all) >= rates.UnhealthyZone
	switch {
	case !troubled:
		return rates.Eviction
	case all > rates.LargeCluster:
		return rates.Secondary
	}
	return 0
}

// wantedNoExecute is the key of the taint that the node's state asks for.
func wantedNoExecute(node *keelsonv1.Node) string {
	condition := find(&node.Status, corev1.NodeReady)
	switch {
	case condition == nil || condition.Status == corev1.ConditionTrue:
		return ""
	case condition.Status == corev1.ConditionUnknown:
		return corev1.TaintNodeUnreachable
	}
	return corev1.TaintNodeNotReady
}

func isOurNoExecute(t corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoExecute && (t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable)
}

func hasNoExecute(node *keelsonv1.Node, key string) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return isOurNoExecute(t) && t.Key == key })
}

// withNoExecute returns the taints with that of key alone of ours, or with none. One that
// follows on the other keeps its time: the Pods have been waiting since.
func withNoExecute(taints []corev1.Taint, key string, now time.Time) []corev1.Taint {
	since := metav1.NewTime(now)
	kept := slices.DeleteFunc(slices.Clone(taints), func(t corev1.Taint) bool {
		if !isOurNoExecute(t) {
			return false
		}
		if t.TimeAdded != nil {
			since = *t.TimeAdded
		}
		return true
	})
	if key == "" {
		return kept
	}
	return append(kept, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute, TimeAdded: &since})
}
