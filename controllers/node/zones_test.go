package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

var zoneNow = time.Unix(1_000_000, 0)

// nodesIn makes nodes from text such as "a:+ a:- b:? a:-!", a zone and a state each:
// + ready, - not ready, ? silent, and ! with the taint of effect NoExecute for it.
func nodesIn(text string) []*keelsonv1.Node {
	var all []*keelsonv1.Node
	for i, word := range strings.Fields(text) {
		zone, state, _ := strings.Cut(word, ":")
		node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i), Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
		status := map[byte]corev1.ConditionStatus{'+': corev1.ConditionTrue, '-': corev1.ConditionFalse, '?': corev1.ConditionUnknown}[state[0]]
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(zoneNow.Add(time.Duration(i) * time.Second))}}
		if strings.HasSuffix(state, "!") {
			key := wantedNoExecute(node)
			if key == "" {
				key = corev1.TaintNodeNotReady
			}
			node.Spec.Taints = withNoExecute(nil, key, zoneNow.Add(-time.Hour))
		}
		all = append(all, node)
	}
	return all
}

// changes is "n1+unreachable n2-", sorted.
func changes(set map[string][]corev1.Taint) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		text := name + "-"
		for _, t := range set[name] {
			text = name + "+" + strings.TrimPrefix(t.Key, "node.kubernetes.io/")
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestPlanNoExecute(t *testing.T) {
	ago := func(d time.Duration) map[string]time.Time {
		return map[string]time.Time{zoneName("a"): zoneNow.Add(-d)}
	}
	for what, tc := range map[string]struct {
		nodes string
		last  map[string]time.Time
		want  string
		next  time.Duration
	}{
		"all is well":                               {nodes: "a:+ a:+"},
		"the first silent node goes at once":        {nodes: "a:+ a:?", want: "n1+unreachable"},
		"one that says it is not ready":             {nodes: "a:+ a:-", want: "n1+not-ready"},
		"the next one waits":                        {nodes: "a:+ a:+ a:+ a:-! a:-", last: ago(4 * time.Second), next: 6 * time.Second},
		"and goes when its turn comes":              {nodes: "a:+ a:+ a:+ a:-! a:-", last: ago(10 * time.Second), want: "n4+not-ready"},
		"the one that is silent longest goes first": {nodes: "a:+ a:+ a:+ a:? a:?", want: "n3+unreachable", next: 10 * time.Second},
		"each zone has its own turn":                {nodes: "a:+ a:? b:+ b:?", want: "n1+unreachable n3+unreachable"},
		"a zone in trouble waits":                   {nodes: "a:+ a:? a:? a:?"},
		"another zone does not":                     {nodes: "a:+ a:? a:? a:? b:+ b:?", want: "n5+unreachable"},
		"a zone without any ready node goes on":     {nodes: "a:? a:? b:+", want: "n0+unreachable", next: 10 * time.Second},
		"nobody is ready, so it is us":              {nodes: "a:? b:?"},
		"and those who were sent away may stay":     {nodes: "a:?! b:?", want: "n0-"},
		"a node that is back keeps its Pods":        {nodes: "a:+! a:+", want: "n0-"},
	} {
		t.Run(what, func(t *testing.T) {
			nodes := nodesIn(tc.nodes)
			plan := planNoExecute(nodes, tc.last, DefaultRates(), zoneNow)
			if diff := cmp.Diff(tc.want, changes(plan.set)); diff != "" || plan.next != tc.next {
				t.Errorf("changes (-want +got):\n%s next in %v, want %v", diff, plan.next, tc.next)
			}
		})
	}
}

func zoneName(name string) string { return nodeZone(name + ":+") }

func nodeZone(text string) string {
	zones, _ := zonesOf(nodesIn(text))
	return zones[0].name
}

func TestLargeZonesLoseNodesSlowly(t *testing.T) {
	nodes := nodesIn(strings.Repeat("a:+ ", 20) + strings.Repeat("a:? ", 40))
	plan := planNoExecute(nodes, nil, DefaultRates(), zoneNow)
	if len(plan.set) != 1 || plan.next != 100*time.Second {
		t.Errorf("%d nodes at once, the next in %v; want 1, 1m40s", len(plan.set), plan.next)
	}
}

func TestTimeGoesOnWhenTheReasonChanges(t *testing.T) {
	since := metav1.NewTime(zoneNow.Add(-time.Minute))
	node := nodesIn("a:?")[0]
	node.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoExecute, TimeAdded: &since}, {Key: "mine", Effect: corev1.TaintEffectNoSchedule}}
	plan := planNoExecute(append(nodesIn("a:+"), rename(node, "x")), nil, DefaultRates(), zoneNow)
	want := []corev1.Taint{{Key: "mine", Effect: corev1.TaintEffectNoSchedule}, {Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &since}}
	if diff := cmp.Diff(want, plan.set["x"]); diff != "" {
		t.Errorf("taints (-want +got):\n%s", diff)
	}
}

func rename(node *keelsonv1.Node, name string) *keelsonv1.Node {
	node.Name = name
	return node
}

// Whatever the nodes do: a zone never loses more nodes than its rate allows, and nobody is
// sent away while no node is ready.
func TestNeverFasterThanTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := nodesIn("a:+ a:+ a:+ a:+ a:+ a:+")
		var last map[string]time.Time
		now, lost := zoneNow, []time.Time{}
		for range 50 {
			now = now.Add(time.Duration(rapid.IntRange(0, 8).Draw(t, "seconds")) * time.Second)
			node := nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "node")]
			node.Status.Conditions[0].Status = rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionUnknown}).Draw(t, "status")
			plan := planNoExecute(nodes, last, DefaultRates(), now)
			last = plan.last
			ready := slices.ContainsFunc(nodes, func(n *keelsonv1.Node) bool { return n.Status.Conditions[0].Status == corev1.ConditionTrue })
			for _, n := range nodes {
				taints, changed := plan.set[n.Name]
				if !changed {
					continue
				}
				if len(taints) > 0 {
					lost = append(lost, now)
					if !ready {
						t.Fatal("a node is emptied while none is ready")
					}
				}
				n.Spec.Taints = taints
			}
		}
		for i := 1; i < len(lost); i++ {
			if gap := lost[i].Sub(lost[i-1]); gap < 10*time.Second {
				t.Fatalf("two nodes are emptied within %v", gap)
			}
		}
	})
}

func TestSetNotReady(t *testing.T) {
	status := &corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if !setNotReady(status, metav1.NewTime(zoneNow)) || status.Conditions[1].Status != corev1.ConditionFalse || status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("conditions %+v", status.Conditions)
	}
	if setNotReady(status, metav1.NewTime(zoneNow)) {
		t.Error("changed twice")
	}
}
