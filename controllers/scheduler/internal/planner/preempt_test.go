package planner_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

func victim(name, node, cpu string, priority int32) *schedulertest.Pod {
	return schedulertest.MakePod(name).On(node).Asks(cpu, "").Priority(priority).Started(100)
}

func budget(app string, allowed int32, disrupted ...string) planner.Budget {
	return planner.Budget{Namespace: "ns", Selector: labels.SelectorFromSet(labels.Set{"app": app}), Allowed: allowed,
		Disrupted: func(pod string) bool {
			for _, name := range disrupted {
				if name == pod {
					return true
				}
			}
			return false
		}}
}

// Cases after upstream's TestPostFilter, TestDryRunPreemption, TestSelectBestCandidate
// and TestPodEligibleToPreemptOthers.
func TestPreemption(t *testing.T) {
	node := func(name string) *schedulertest.Node { return schedulertest.MakeNode(name).Room("4", "8Gi", "110") }
	one := schedulertest.Nodes(node("a"))
	two := schedulertest.Nodes(node("a"), node("b"))
	urgent := func() *schedulertest.Pod { return schedulertest.MakePod("urgent").Asks("2", "").Priority(100) }
	tests := map[string]struct {
		nodes    []*keelsonv1.Node
		bound    []*schedulertest.Pod
		budgets  []planner.Budget
		pod      *schedulertest.Pod
		want     []string // the victims
		wantNode string
		wantKeep bool
		message  string
	}{
		"one victim makes room": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "4", 1)}, pod: urgent(),
			want: []string{"low"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"as few as possible, the least important": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "2", 1), victim("mid", "a", "2", 50)}, pod: urgent(),
			want: []string{"low"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"of equals the youngest": {
			nodes: one, bound: []*schedulertest.Pod{victim("young", "a", "2", 1).Started(200), victim("old", "a", "2", 1)}, pod: urgent(),
			want: []string{"young"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"several victims, the most important first": {
			nodes: one, bound: []*schedulertest.Pod{victim("x", "a", "1", 1), victim("y", "a", "1", 2), victim("z", "a", "2", 100)}, pod: urgent(),
			want: []string{"y", "x"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 2 victims",
		},
		"nobody less important": {
			nodes: one, bound: []*schedulertest.Pod{victim("equal", "a", "4", 100)}, pod: urgent(),
			message: "0/1 nodes are available: 1 No preemption victims found for incoming pod.",
		},
		"not even all victims are enough": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "1", 1), victim("high", "a", "3", 200)}, pod: urgent(),
			message: "0/1 nodes are available: 1 Insufficient cpu.",
		},
		"larger than the node": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "1", 1)}, pod: schedulertest.MakePod("urgent").Asks("5", "").Priority(100),
			message: "0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
		},
		"some nodes cannot help": {
			nodes: schedulertest.Nodes(node("a"), node("b").Cordon()), bound: []*schedulertest.Pod{victim("equal", "a", "4", 100)}, pod: urgent(),
			message: "0/2 nodes are available: 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling.",
		},
		"a policy of never": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "4", 1)}, pod: urgent().NeverPreempts(),
			wantKeep: true, message: "not eligible due to preemptionPolicy=Never.",
		},
		"others are going for it already": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "4", 1).Preempted()}, pod: urgent().Nominated("a"),
			wantKeep: true, message: "not eligible due to a terminating pod on the nominated node.",
		},
		"somebody goes for another reason": {
			nodes: one, bound: []*schedulertest.Pod{victim("low", "a", "4", 1).Deleting()}, pod: urgent().Nominated("a"),
			want: []string{"low"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"the nominated node has become impossible": {
			nodes: schedulertest.Nodes(node("a").Cordon(), node("b")), pod: urgent().Nominated("a"),
			bound: []*schedulertest.Pod{victim("going", "a", "4", 1).Preempted(), victim("low", "b", "4", 1)},
			want:  []string{"low"}, wantNode: "b", message: "found a potential placement for pod on node b, preempting 1 victims",
		},
		"a budget protects": {
			nodes: two, budgets: []planner.Budget{budget("db", 0)}, pod: urgent(),
			bound: []*schedulertest.Pod{victim("db", "a", "4", 1).Label("app", "db"), victim("web", "b", "4", 50).Label("app", "web")},
			want:  []string{"web"}, wantNode: "b", message: "found a potential placement for pod on node b, preempting 1 victims",
		},
		"a budget does not protect where there is no other way": {
			nodes: one, budgets: []planner.Budget{budget("db", 0)}, pod: urgent(),
			bound: []*schedulertest.Pod{victim("db", "a", "4", 1).Label("app", "db")},
			want:  []string{"db"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"within a node a budget is spared first": {
			nodes: one, budgets: []planner.Budget{budget("db", 0)}, pod: urgent(),
			bound: []*schedulertest.Pod{victim("db", "a", "2", 1).Label("app", "db"), victim("web", "a", "2", 50).Label("app", "web")},
			want:  []string{"web"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"a budget has counted a pod that goes": {
			nodes: two, budgets: []planner.Budget{budget("db", 0, "db")}, pod: urgent(),
			bound: []*schedulertest.Pod{victim("db", "a", "4", 1).Label("app", "db"), victim("web", "b", "4", 50).Label("app", "web")},
			want:  []string{"db"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"the node with the lowest highest priority": {
			nodes: two, bound: []*schedulertest.Pod{victim("a1", "a", "4", 10), victim("b1", "b", "4", 5)}, pod: urgent(),
			want: []string{"b1"}, wantNode: "b", message: "found a potential placement for pod on node b, preempting 1 victims",
		},
		"then the lowest sum": {
			nodes: two, pod: schedulertest.MakePod("urgent").Asks("4", "").Priority(100),
			bound: []*schedulertest.Pod{victim("a1", "a", "2", 10), victim("a2", "a", "2", 5), victim("b1", "b", "2", 10), victim("b2", "b", "2", 4)},
			want:  []string{"b1", "b2"}, wantNode: "b", message: "found a potential placement for pod on node b, preempting 2 victims",
		},
		"one of a low priority rather than two of a lower": {
			nodes: two, pod: schedulertest.MakePod("urgent").Asks("4", "").Priority(100),
			bound: []*schedulertest.Pod{victim("a1", "a", "4", -5), victim("b1", "b", "2", -5), victim("b2", "b", "2", -10)},
			want:  []string{"a1"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"then the latest start": {
			nodes: two, bound: []*schedulertest.Pod{victim("a1", "a", "4", 5).Started(100), victim("b1", "b", "4", 5).Started(300)}, pod: urgent(),
			want: []string{"b1"}, wantNode: "b", message: "found a potential placement for pod on node b, preempting 1 victims",
		},
		"anti-affinity is worth a victim": {
			nodes: one, bound: []*schedulertest.Pod{victim("web", "a", "1", 1).Label("app", "web")},
			pod:  urgent().Without(schedulertest.Term(hostname, "app", "web")),
			want: []string{"web"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
		"affinity to a victim makes it none": {
			nodes: one, bound: []*schedulertest.Pod{victim("web", "a", "2", 1).Label("app", "web"), victim("low", "a", "2", 1)},
			pod:     urgent().With(schedulertest.Term(hostname, "app", "web")),
			message: "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
		},
		"spreading is worth a victim": {
			nodes: schedulertest.Nodes(node("a"), node("b").Cordon()), bound: []*schedulertest.Pod{victim("web", "a", "1", 1).Label("app", "web")},
			pod:  urgent().Label("app", "web").Spread(1, hostname, "DoNotSchedule", "app", "web"),
			want: []string{"web"}, wantNode: "a", message: "found a potential placement for pod on node a, preempting 1 victims",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			snapshot := schedulertest.SnapshotOf(tc.nodes, infos(tc.bound)...)
			p, pod := newPlanner(1), tc.pod.Info()
			placement := p.Plan(pod, snapshot)
			if placement.Refusal == nil {
				t.Fatalf("placed on %s without any victim", placement.Node)
			}
			got := p.Preempt(pod, snapshot, placement.Refusal, tc.budgets)
			var victims []string
			node := ""
			if got.Preemption != nil {
				node = got.Preemption.Node
				for _, v := range got.Preemption.Victims {
					victims = append(victims, v.Pod.Name)
				}
			}
			if diff := cmp.Diff(tc.want, victims); diff != "" || node != tc.wantNode {
				t.Errorf("on %q, want %q; victims (-want +got):\n%s", node, tc.wantNode, diff)
			}
			if got.Message != tc.message || got.KeepNomination != tc.wantKeep {
				t.Errorf("message %q, keep %t; want %q, %t", got.Message, got.KeepNomination, tc.message, tc.wantKeep)
			}
		})
	}
}

func infos(pods []*schedulertest.Pod) []*state.PodInfo {
	var all []*state.PodInfo
	for _, p := range pods {
		all = append(all, p.Info())
	}
	return all
}

// Whatever there is: nobody goes who is as important, everybody's going is needed, and
// after it the Pod fits where it was told.
func TestPreemptionIsSound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []*keelsonv1.Node
		var bound []*state.PodInfo
		for i := range rapid.IntRange(1, 4).Draw(t, "nodes") {
			name := fmt.Sprintf("n%d", i)
			nodes = append(nodes, schedulertest.MakeNode(name).Room("4", "8Gi", "6").Zone(fmt.Sprint(i%2)).Obj())
			for j := range rapid.IntRange(0, 6).Draw(t, "pods") {
				pod := victim(fmt.Sprintf("%s-%d", name, j), name, fmt.Sprintf("%dm", rapid.IntRange(0, 1500).Draw(t, "cpu")), int32(rapid.IntRange(0, 3).Draw(t, "priority"))).
					Label("app", rapid.SampledFrom([]string{"web", "db"}).Draw(t, "app"))
				if rapid.Bool().Draw(t, "hermit") {
					pod.Without(schedulertest.Term(zoneKey, "app", "db"))
				}
				bound = append(bound, pod.Info())
			}
		}
		pod := labelled("p", "db").Asks(fmt.Sprintf("%dm", rapid.IntRange(0, 4000).Draw(t, "ask")), "").Priority(2)
		if rapid.Bool().Draw(t, "apart") {
			pod.Without(schedulertest.Term(hostname, "app", "web"))
		}
		if rapid.Bool().Draw(t, "spread") {
			pod.Spread(1, zoneKey, "DoNotSchedule", "app", "db")
		}
		info := pod.Info()
		p := newPlanner(rapid.Uint64().Draw(t, "seed"))
		snapshot := schedulertest.SnapshotOf(nodes, bound...)
		placement := p.Plan(info, snapshot)
		if placement.Refusal == nil {
			return
		}
		outcome := p.Preempt(info, snapshot, placement.Refusal, []planner.Budget{budget("web", 1)})
		if outcome.Preemption == nil {
			return
		}
		fits := func(without map[*state.PodInfo]bool) bool {
			var left []*state.PodInfo
			for _, other := range bound {
				if !without[other] {
					left = append(left, other)
				}
			}
			there := pod.Info()
			there.Pod.Spec.NodeName = outcome.Preemption.Node
			return newPlanner(1).Plan(there, schedulertest.SnapshotOf(nodes, left...)).Node == outcome.Preemption.Node
		}
		gone := map[*state.PodInfo]bool{}
		for _, v := range outcome.Preemption.Victims {
			if v.Priority() >= 2 || v.Pod.Spec.NodeName != outcome.Preemption.Node {
				t.Fatalf("%s of priority %d on %s goes", v.Pod.Name, v.Priority(), v.Pod.Spec.NodeName)
			}
			gone[v] = true
		}
		if !fits(gone) {
			t.Fatalf("it does not fit on %s after %v went", outcome.Preemption.Node, gone)
		}
		for _, v := range outcome.Preemption.Victims {
			delete(gone, v)
			if fits(gone) {
				t.Fatalf("%s goes without need", v.Pod.Name)
			}
			gone[v] = true
		}
	})
}
