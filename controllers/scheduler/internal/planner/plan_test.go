package planner_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/planner"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulerconfig"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

type nobody struct{}

func (nobody) Selector(*state.PodInfo) labels.Selector { return labels.Set{}.AsSelector() }

// newPlanner is one with the default profile.
func newPlanner(seed uint64) *planner.Planner {
	return plannerOf(seed, schedulerconfig.Default("").Profiles[0])
}

func plannerOf(seed uint64, from schedulerconfig.Profile) *planner.Planner {
	profile, err := from.Build(nobody{})
	if err != nil {
		panic(err)
	}
	return &planner.Planner{Profile: *profile, Rand: rand.New(rand.NewPCG(seed, seed))}
}

func TestPlacement(t *testing.T) {
	small, large := schedulertest.MakeNode("small").Room("1", "1Gi", "10").Obj(), schedulertest.MakeNode("large").Room("8", "16Gi", "110").Obj()
	tests := map[string]struct {
		nodes []*keelsonv1.Node
		bound []*state.PodInfo
		pod   *schedulertest.Pod
		// want is the chosen Node; wantWhy is the message when there is none.
		want    string
		wantWhy string
	}{
		"there is no node": {
			pod:     schedulertest.MakePod("p"),
			wantWhy: "no nodes available to schedule pods",
		},
		"the request fits one node only": {
			nodes: []*keelsonv1.Node{small, large},
			pod:   schedulertest.MakePod("p").Asks("2", ""),
			want:  "large",
		},
		"a request that fills the node to the last unit fits": {
			nodes: []*keelsonv1.Node{small},
			bound: []*state.PodInfo{schedulertest.MakePod("other").Asks("400m", "512Mi").On("small").Info()},
			pod:   schedulertest.MakePod("p").Asks("600m", "512Mi"),
			want:  "small",
		},
		"one unit more does not, and every lack is named": {
			nodes:   []*keelsonv1.Node{small},
			bound:   []*state.PodInfo{schedulertest.MakePod("other").Asks("400m", "512Mi").On("small").Info()},
			pod:     schedulertest.MakePod("p").Asks("601m", "513Mi"),
			wantWhy: "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
		},
		"a pod without requests fits a full node": {
			nodes: []*keelsonv1.Node{small},
			bound: []*state.PodInfo{schedulertest.MakePod("other").Asks("1", "1Gi").On("small").Info()},
			pod:   schedulertest.MakePod("p"),
			want:  "small",
		},
		"the number of pods is a resource": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("tiny").Room("8", "8Gi", "1").Obj()},
			bound:   []*state.PodInfo{schedulertest.MakePod("other").On("tiny").Info()},
			pod:     schedulertest.MakePod("p"),
			wantWhy: "0/1 nodes are available: 1 Too many pods.",
		},
		"a node that has not said what it has takes nothing": {
			nodes:   []*keelsonv1.Node{{ObjectMeta: schedulertest.MakeNode("new").Obj().ObjectMeta}},
			pod:     schedulertest.MakePod("p"),
			wantWhy: "0/1 nodes are available: 1 Too many pods.",
		},
		"nodeName is the only choice": {
			nodes: []*keelsonv1.Node{small, large},
			pod:   schedulertest.MakePod("p").On("small"),
			want:  "small",
		},
		"nodeName of another node": {
			nodes:   []*keelsonv1.Node{large},
			pod:     schedulertest.MakePod("p").On("small"),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match the requested node name.",
		},
		"nodeSelector picks the labelled node": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("a").Obj(), schedulertest.MakeNode("b").Label("env", "test").Obj()},
			pod:   schedulertest.MakePod("p").Selects("env", "test"),
			want:  "b",
		},
		"nodeSelector with another value": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("b").Label("env", "prod").Obj()},
			pod:     schedulertest.MakePod("p").Selects("env", "test"),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
		},
		"required node affinity to a name": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("a").Obj(), schedulertest.MakeNode("b").Obj()},
			pod:   schedulertest.MakePod("p").Requires(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}),
			want:  "b",
		},
		"required node affinity to labels": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("a").Label("env", "test").Obj()},
			pod:     schedulertest.MakePod("p").Requires(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "env", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"test"}}}}),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
		},
		"a cordoned node": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("c").Cordon().Obj()},
			pod:     schedulertest.MakePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) were unschedulable.",
		},
		"a cordoned node and a pod that tolerates it": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("c").Cordon().Taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule).Obj()},
			pod:   schedulertest.MakePod("p").Tolerates(corev1.Toleration{Key: corev1.TaintNodeUnschedulable, Operator: corev1.TolerationOpExists}),
			want:  "c",
		},
		"a node that is not ready is kept out by its taint": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("n").Taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule).Obj()},
			pod:     schedulertest.MakePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
		},
		"NoExecute keeps out too": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("n").Taint("k", corev1.TaintEffectNoExecute).Obj()},
			pod:     schedulertest.MakePod("p"),
			wantWhy: "0/1 nodes are available: 1 node(s) had untolerated taint(s).",
		},
		"PreferNoSchedule only repels": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("n").Taint("k", corev1.TaintEffectPreferNoSchedule).Obj(), schedulertest.MakeNode("m").Obj()},
			pod:   schedulertest.MakePod("p"),
			want:  "m",
		},
		"a taken host port": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("n").Obj()},
			bound:   []*state.PodInfo{schedulertest.MakePod("other").HostPort(80, corev1.ProtocolTCP, "").On("n").Info()},
			pod:     schedulertest.MakePod("p").HostPort(80, "", ""),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		"one host port, two protocols": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("n").Obj()},
			bound: []*state.PodInfo{schedulertest.MakePod("other").HostPort(53, corev1.ProtocolTCP, "").On("n").Info()},
			pod:   schedulertest.MakePod("p").HostPort(53, corev1.ProtocolUDP, ""),
			want:  "n",
		},
		"one host port, two addresses": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("n").Obj()},
			bound: []*state.PodInfo{schedulertest.MakePod("other").HostPort(80, corev1.ProtocolTCP, "127.0.0.1").On("n").Info()},
			pod:   schedulertest.MakePod("p").HostPort(80, corev1.ProtocolTCP, "127.0.0.2"),
			want:  "n",
		},
		"one address conflicts with every address": {
			nodes:   []*keelsonv1.Node{schedulertest.MakeNode("n").Obj()},
			bound:   []*state.PodInfo{schedulertest.MakePod("other").HostPort(80, corev1.ProtocolTCP, "127.0.0.1").On("n").Info()},
			pod:     schedulertest.MakePod("p").HostPort(80, corev1.ProtocolTCP, ""),
			wantWhy: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		"the emptier of two equal nodes wins": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("busy").Obj(), schedulertest.MakeNode("idle").Obj()},
			bound: []*state.PodInfo{schedulertest.MakePod("other").Asks("1", "2Gi").On("busy").Info()},
			pod:   schedulertest.MakePod("p").Asks("500m", "1Gi"),
			want:  "idle",
		},
		"pods without requests spread too": {
			nodes: []*keelsonv1.Node{schedulertest.MakeNode("busy").Obj(), schedulertest.MakeNode("idle").Obj()},
			bound: []*state.PodInfo{schedulertest.MakePod("other").On("busy").Info()},
			pod:   schedulertest.MakePod("p"),
			want:  "idle",
		},
		"reasons are counted and sorted": {
			nodes: []*keelsonv1.Node{
				schedulertest.MakeNode("a").Cordon().Obj(),
				schedulertest.MakeNode("b").Room("1", "8Gi", "110").Obj(),
				schedulertest.MakeNode("c").Room("1", "8Gi", "110").Obj(),
			},
			pod:     schedulertest.MakePod("p").Asks("2", ""),
			wantWhy: "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := newPlanner(1).Plan(tc.pod.Info(), schedulertest.SnapshotOf(tc.nodes, tc.bound...))
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

// Equal nodes are drawn by lot, each as often as the others.
func TestTiesAreBrokenAtRandom(t *testing.T) {
	var nodes []*keelsonv1.Node
	for i := range 4 {
		nodes = append(nodes, schedulertest.MakeNode(fmt.Sprintf("n%d", i)).Obj())
	}
	snapshot := schedulertest.SnapshotOf(nodes)
	planner, pod := newPlanner(7), schedulertest.MakePod("p").Info()
	chosen := map[string]int{}
	const draws = 4000
	for range draws {
		chosen[planner.Plan(pod, snapshot).Node]++
	}
	for _, node := range nodes {
		// Six standard deviations around the mean.
		if got := chosen[node.Name]; got < 835 || got > 1165 {
			t.Errorf("%s was chosen %d times of %d, want about %d", node.Name, got, draws, draws/4)
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, count := range []int{1000, 5000} {
		b.Run(fmt.Sprint(count, " Nodes"), func(b *testing.B) { benchmarkPlan(b, count) })
	}
}

func benchmarkPlan(b *testing.B, count int) {
	var nodes []*keelsonv1.Node
	for i := range count {
		nodes = append(nodes, schedulertest.MakeNode(fmt.Sprintf("n%04d", i)).Room("32", "128Gi", "110").Label("zone", fmt.Sprint(i%3)).Obj())
	}
	c := schedulertest.Cluster(nodes)
	planner, snapshot := newPlanner(1), state.NewSnapshot()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		pod := schedulertest.MakePod(fmt.Sprintf("p%d", i)).Asks("100m", "128Mi").Info()
		placement := planner.Plan(pod, update(c, snapshot))
		c.Assume(pod, placement.Node)
		c.RemovePod(pod.Pod.UID)
	}
}
