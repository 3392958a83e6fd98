package scheduler

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestPlacement(t *testing.T) {
	small, large := makeNode("small").room("1", "1Gi", "10").obj(), makeNode("large").room("8", "16Gi", "110").obj()
	tests := map[string]struct {
		nodes []*keelsonv1.Node
		bound []*PodInfo
		pod   *podMaker
		// want is the chosen Node; wantWhy is the message when there is none.
		want    string
		wantWhy string
	}{
		"there is no node": {
			pod:     makePod("p"),
			wantWhy: "no nodes available to schedule pods",
		},
		"the request fits one node only": {
			nodes: []*keelsonv1.Node{small, large},
			pod:   makePod("p").asks("2", ""),
			want:  "large",
		},
		"a request that fills the node to the last unit fits": {
			nodes: []*keelsonv1.Node{small},
			bound: []*PodInfo{makePod("other").asks("400m", "512Mi").on("small").info()},
			pod:   makePod("p").asks("600m", "512Mi"),
			want:  "small",
		},
		"one unit more does not, and every lack is named": {
			nodes:   []*keelsonv1.Node{small},
			bound:   []*PodInfo{makePod("other").asks("400m", "512Mi").on("small").info()},
			pod:     makePod("p").asks("601m", "513Mi"),
			wantWhy: "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
		},
		"a pod without requests fits a full node": {
			nodes: []*keelsonv1.Node{small},
			bound: []*PodInfo{makePod("other").asks("1", "1Gi").on("small").info()},
			pod:   makePod("p"),
			want:  "small",
		},
		"the number of pods is a resource": {
			nodes:   []*keelsonv1.Node{makeNode("tiny").room("8", "8Gi", "1").obj()},
			bound:   []*PodInfo{makePod("other").on("tiny").info()},
			pod:     makePod("p"),
			wantWhy: "0/1 nodes are available: 1 Too many pods.",
		},
		"a node that has not said what it has takes nothing": {
			nodes:   []*keelsonv1.Node{{ObjectMeta: makeNode("new").ObjectMeta}},
			pod:     makePod("p"),
			wantWhy: "0/1 nodes are available: 1 Too many pods.",
		},
		"nodeName is the only choice": {
			nodes: []*keelsonv1.Node{small, large},
			pod:   makePod("p").on("small"),
			want:  "small",
		},
		"nodeName of another node": {
			nodes:   []*keelsonv1.Node{large},
			pod:     makePod("p").on("small"),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match the requested node name.",
		},
		"nodeSelector picks the labelled node": {
			nodes: []*keelsonv1.Node{makeNode("a").obj(), makeNode("b").label("env", "test").obj()},
			pod:   makePod("p").selects("env", "test"),
			want:  "b",
		},
		"nodeSelector with another value": {
			nodes:   []*keelsonv1.Node{makeNode("b").label("env", "prod").obj()},
			pod:     makePod("p").selects("env", "test"),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
		},
		"required node affinity to a name": {
			nodes: []*keelsonv1.Node{makeNode("a").obj(), makeNode("b").obj()},
			pod:   makePod("p").requires(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}),
			want:  "b",
		},
		"required node affinity to labels": {
			nodes:   []*keelsonv1.Node{makeNode("a").label("env", "test").obj()},
			pod:     makePod("p").requires(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "env", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"test"}}}}),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
		},
		"a cordoned node": {
			nodes:   []*keelsonv1.Node{makeNode("c").cordon().obj()},
			pod:     makePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) were unschedulable.",
		},
		"a cordoned node and a pod that tolerates it": {
			nodes: []*keelsonv1.Node{makeNode("c").cordon().taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule).obj()},
			pod:   makePod("p").tolerates(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists}),
			want:  "c",
		},
		"a node that is not ready is kept out by its taint": {
			nodes:   []*keelsonv1.Node{makeNode("n").taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule).obj()},
			pod:     makePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
		},
		"NoExecute keeps out too": {
			nodes:   []*keelsonv1.Node{makeNode("n").taint("k", corev1.TaintEffectNoExecute).obj()},
			pod:     makePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
		},
		"PreferNoSchedule only repels": {
			nodes: []*keelsonv1.Node{makeNode("n").taint("k", corev1.TaintEffectPreferNoSchedule).obj(), makeNode("m").obj()},
			pod:   makePod("p"),
			want:  "m",
		},
		"a taken host port": {
			nodes:   []*keelsonv1.Node{makeNode("n").obj()},
			bound:   []*PodInfo{makePod("other").hostPort(80, corev1.ProtocolTCP, "").on("n").info()},
			pod:     makePod("p").hostPort(80, "", ""),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		"one host port, two protocols": {
			nodes: []*keelsonv1.Node{makeNode("n").obj()},
			bound: []*PodInfo{makePod("other").hostPort(53, corev1.ProtocolTCP, "").on("n").info()},
			pod:   makePod("p").hostPort(53, corev1.ProtocolUDP, ""),
			want:  "n",
		},
		"one host port, two addresses": {
			nodes: []*keelsonv1.Node{makeNode("n").obj()},
			bound: []*PodInfo{makePod("other").hostPort(80, corev1.ProtocolTCP, "127.0.0.1").on("n").info()},
			pod:   makePod("p").hostPort(80, corev1.ProtocolTCP, "127.0.0.2"),
			want:  "n",
		},
		"one address conflicts with every address": {
			nodes:   []*keelsonv1.Node{makeNode("n").obj()},
			bound:   []*PodInfo{makePod("other").hostPort(80, corev1.ProtocolTCP, "127.0.0.1").on("n").info()},
			pod:     makePod("p").hostPort(80, corev1.ProtocolTCP, ""),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		"the emptier of two equal nodes wins": {
			nodes: []*keelsonv1.Node{makeNode("busy").obj(), makeNode("idle").obj()},
			bound: []*PodInfo{makePod("other").asks("1", "2Gi").on("busy").info()},
			pod:   makePod("p").asks("500m", "1Gi"),
			want:  "idle",
		},
		"pods without requests spread too": {
			nodes: []*keelsonv1.Node{makeNode("busy").obj(), makeNode("idle").obj()},
			bound: []*PodInfo{makePod("other").on("busy").info()},
			pod:   makePod("p"),
			want:  "idle",
		},
		"reasons are counted and sorted": {
			nodes: []*keelsonv1.Node{
				makeNode("a").cordon().obj(),
				makeNode("b").room("1", "8Gi", "110").obj(),
				makeNode("c").room("1", "8Gi", "110").obj(),
			},
			pod:     makePod("p").asks("2", ""),
			wantWhy: "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := newTestPlanner(1).plan(tc.pod.info(), cluster(tc.nodes, tc.bound...).snapshot())
			why := ""
			if got.Refusal != nil {
				why = got.Refusal.Message()
			}
			if got.Node != tc.want || why != tc.wantWhy {
				t.Errorf("got node %q, refusal %q; want node %q, refusal %q", got.Node, why, tc.want, tc.wantWhy)
			}
		})
	}
}

func TestScores(t *testing.T) {
	node := func(cpu, memory string, bound ...*PodInfo) *NodeInfo {
		return cluster([]*keelsonv1.Node{makeNode("n").room(cpu, memory, "110").obj()}, bound...).snapshot().Nodes()[0]
	}
	half := makePod("half").asks("2", "2Gi").on("n").info()
	tests := map[string]struct {
		score func(*PodInfo, *NodeInfo) int64
		pod   *podMaker
		node  *NodeInfo
		want  int64
	}{
		"least allocated: everything free":          {scoreLeastAllocated, makePod("p").asks("0", "0"), node("4", "4Gi"), 100},
		"least allocated: half taken by the pod":    {scoreLeastAllocated, makePod("p").asks("2", "2Gi"), node("4", "4Gi"), 50},
		"least allocated: the mean of both":         {scoreLeastAllocated, makePod("p").asks("4", "0"), node("4", "4Gi"), 50},
		"least allocated: bound pods count":         {scoreLeastAllocated, makePod("p").asks("1", "1Gi"), node("4", "4Gi", half), 25},
		"least allocated: more than there is":       {scoreLeastAllocated, makePod("p").asks("9", "9Gi"), node("4", "4Gi"), 0},
		"least allocated: a node without resources": {scoreLeastAllocated, makePod("p"), node("0", "0"), 0},
		"balanced: no change":                       {scoreBalanced, makePod("p").asks("1", "1Gi"), node("4", "4Gi"), 100/2 + 50/2},
		"balanced: made worse":                      {scoreBalanced, makePod("p").asks("4", ""), node("4", "4Gi"), 50},
		"balanced: made better":                     {scoreBalanced, makePod("p").asks("", "2Gi"), node("4", "4Gi", makePod("o").asks("2", "").on("n").info()), 87},
		"balanced: no opinion without requests":     {scoreBalanced, makePod("p"), node("4", "4Gi"), 0},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.score(tc.pod.info(), tc.node); got != tc.want {
				t.Errorf("score is %d, want %d", got, tc.want)
			}
		})
	}
}

// Equal nodes are drawn by lot, each as often as the others.
func TestTiesAreBrokenAtRandom(t *testing.T) {
	var nodes []*keelsonv1.Node
	for i := range 4 {
		nodes = append(nodes, makeNode(fmt.Sprintf("n%d", i)).obj())
	}
	snapshot := cluster(nodes).snapshot()
	planner, pod := newTestPlanner(7), makePod("p").info()
	chosen := map[string]int{}
	const draws = 4000
	for range draws {
		chosen[planner.plan(pod, snapshot).Node]++
	}
	for _, node := range nodes {
		// Six standard deviations around the mean.
		if got := chosen[node.Name]; got < 835 || got > 1165 {
			t.Errorf("%s was chosen %d times of %d, want about %d", node.Name, got, draws, draws/4)
		}
	}
}

func TestRefusalKnowsWhatWouldHelp(t *testing.T) {
	full := makeNode("full").room("1", "1Gi", "10").obj()
	tests := map[string]struct {
		nodes []*keelsonv1.Node
		pod   *podMaker
		want  change
	}{
		"no node":       {nil, makePod("p"), nodeAdded},
		"no room":       {[]*keelsonv1.Node{full}, makePod("p").asks("2", ""), nodeAdded | nodeCapacityChanged | podGone},
		"cordoned":      {[]*keelsonv1.Node{makeNode("c").cordon().obj()}, makePod("p"), nodeAdded | nodeSpecChanged},
		"wrong labels":  {[]*keelsonv1.Node{full}, makePod("p").selects("a", "b"), nodeAdded | nodeLabelsChanged},
		"several nodes": {[]*keelsonv1.Node{full, makeNode("c").cordon().obj()}, makePod("p").asks("2", ""), nodeAdded | nodeSpecChanged | nodeCapacityChanged | podGone},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := newTestPlanner(1).plan(tc.pod.info(), cluster(tc.nodes).snapshot())
			if got.Refusal == nil {
				t.Fatalf("the Pod was placed on %s", got.Node)
			}
			if diff := cmp.Diff(tc.want, got.Refusal.helpedBy); diff != "" {
				t.Errorf("helped by (-want +got):\n%s", diff)
			}
		})
	}
}

func BenchmarkPlan1000Nodes(b *testing.B) {
	var nodes []*keelsonv1.Node
	for i := range 1000 {
		nodes = append(nodes, makeNode(fmt.Sprintf("n%04d", i)).room("32", "128Gi", "110").label("zone", fmt.Sprint(i%3)).obj())
	}
	c := cluster(nodes)
	planner := newTestPlanner(1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		pod := makePod(fmt.Sprintf("p%d", i)).asks("100m", "128Mi").info()
		placement := planner.plan(pod, c.snapshot())
		c.assume(pod, placement.Node)
		c.removePod(pod.Pod.UID)
	}
}
