package planner_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	hostname = corev1.LabelHostname
	zoneKey  = corev1.LabelTopologyZone
)

func twoZones() []*keelsonv1.Node {
	return schedulertest.Nodes(
		schedulertest.MakeNode("a1").Zone("a"), schedulertest.MakeNode("a2").Zone("a"),
		schedulertest.MakeNode("b1").Zone("b"), schedulertest.MakeNode("b2").Zone("b"),
	)
}

func labelled(name, app string) *schedulertest.Pod {
	return schedulertest.MakePod(name).Label("app", app)
}

// Cases after upstream's TestRequiredAffinitySingleNode and …MultipleNodes.
func TestInterPodAffinity(t *testing.T) {
	web := func(key string) corev1.PodAffinityTerm { return schedulertest.Term(key, "app", "web") }
	inNamespaces := func(names ...string) corev1.PodAffinityTerm {
		term := web(zoneKey)
		term.Namespaces = names
		return term
	}
	bySelector := func(selector *metav1.LabelSelector) corev1.PodAffinityTerm {
		term := web(zoneKey)
		term.NamespaceSelector = selector
		return term
	}
	keyed := func(match, mismatch []string) corev1.PodAffinityTerm {
		term := web(zoneKey)
		term.MatchLabelKeys, term.MismatchLabelKeys = match, mismatch
		return term
	}
	everywhere := []string{"a1", "a2", "b1", "b2"}
	tests := map[string]struct {
		pod   *schedulertest.Pod
		bound []*state.PodInfo
		nodes []*keelsonv1.Node
		want  []string
	}{
		"no rules": {pod: schedulertest.MakePod("p"), want: everywhere},
		"with a pod in its zone": {
			pod:   schedulertest.MakePod("p").With(web(zoneKey)),
			bound: []*state.PodInfo{labelled("w", "web").On("a1").Info()},
			want:  []string{"a1", "a2"},
		},
		"with a pod on its node": {
			pod:   schedulertest.MakePod("p").With(web(hostname)),
			bound: []*state.PodInfo{labelled("w", "web").On("a1").Info()},
			want:  []string{"a1"},
		},
		"with a pod that does not exist": {pod: schedulertest.MakePod("p").With(web(zoneKey))},
		"with a pod of another namespace": {
			pod:   schedulertest.MakePod("p").With(web(zoneKey)),
			bound: []*state.PodInfo{labelled("w", "web").Namespace("other").On("a1").Info()},
		},
		"with a pod of a named namespace": {
			pod:   schedulertest.MakePod("p").With(inNamespaces("other")),
			bound: []*state.PodInfo{labelled("w", "web").Namespace("other").On("a1").Info()},
			want:  []string{"a1", "a2"},
		},
		"with a pod of a namespace with a label": {
			pod:   schedulertest.MakePod("p").With(bySelector(&metav1.LabelSelector{MatchLabels: map[string]string{"team": "red"}})),
			bound: []*state.PodInfo{labelled("w", "web").Namespace("red-team").On("a1").Info(), labelled("x", "web").Namespace("blue-team").On("b1").Info()},
			want:  []string{"a1", "a2"},
		},
		"with a pod of any namespace": {
			pod:   schedulertest.MakePod("p").With(bySelector(&metav1.LabelSelector{})),
			bound: []*state.PodInfo{labelled("w", "web").Namespace("anywhere").On("b1").Info()},
			want:  []string{"b1", "b2"},
		},
		"one pod must match all terms": {
			pod: schedulertest.MakePod("p").With(web(zoneKey)).With(schedulertest.Term(hostname, "tier", "x")),
			bound: []*state.PodInfo{
				labelled("w", "web").On("a1").Info(), schedulertest.MakePod("t").Label("tier", "x").On("a1").Info(),
				labelled("both", "web").Label("tier", "x").On("b1").Info(),
			},
			want: []string{"b1"},
		},
		"the first of a group that wants to be together": {pod: labelled("p", "web").With(web(zoneKey)), want: everywhere},
		"the first of a group needs nodes with the key": {
			pod:   labelled("p", "web").With(web(zoneKey)),
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("z").Zone("z")),
			want:  []string{"z"},
		},
		"the second of a group": {
			pod:   labelled("p", "web").With(web(zoneKey)),
			bound: []*state.PodInfo{labelled("w", "web").On("b2").Info()},
			want:  []string{"b1", "b2"},
		},
		"label keys narrow to the same version": {
			pod: schedulertest.MakePod("p").Label("version", "2").With(keyed([]string{"version"}, nil)),
			bound: []*state.PodInfo{
				labelled("old", "web").Label("version", "1").On("a1").Info(), labelled("new", "web").Label("version", "2").On("b1").Info(),
			},
			want: []string{"b1", "b2"},
		},
		"mismatched label keys keep off other tenants": {
			pod: schedulertest.MakePod("p").Label("tenant", "x").Without(keyed(nil, []string{"tenant"})),
			bound: []*state.PodInfo{
				labelled("own", "web").Label("tenant", "x").On("a1").Info(), labelled("foreign", "web").Label("tenant", "y").On("b1").Info(),
			},
			want: []string{"a1", "a2"},
		},
		"apart from a pod on its node": {
			pod:   schedulertest.MakePod("p").Without(web(hostname)),
			bound: []*state.PodInfo{labelled("w", "web").On("a1").Info()},
			want:  []string{"a2", "b1", "b2"},
		},
		"apart from a pod in its zone": {
			pod:   schedulertest.MakePod("p").Without(web(zoneKey)),
			bound: []*state.PodInfo{labelled("w", "web").On("a1").Info()},
			want:  []string{"b1", "b2"},
		},
		"each of several anti-affinity terms counts": {
			pod: schedulertest.MakePod("p").Without(web(zoneKey)).Without(schedulertest.Term(hostname, "tier", "x")),
			bound: []*state.PodInfo{
				labelled("w", "web").On("a1").Info(), schedulertest.MakePod("t").Label("tier", "x").On("b1").Info(),
			},
			want: []string{"b2"},
		},
		"a pod that keeps away from it": {
			pod:   labelled("p", "web"),
			bound: []*state.PodInfo{schedulertest.MakePod("hermit").Without(web(zoneKey)).On("a1").Info()},
			want:  []string{"b1", "b2"},
		},
		"a pod that keeps away from others": {
			pod:   labelled("p", "db"),
			bound: []*state.PodInfo{schedulertest.MakePod("hermit").Without(web(zoneKey)).On("a1").Info()},
			want:  everywhere,
		},
		"a pod of another namespace that keeps away from the namespace's label": {
			pod: labelled("p", "web"),
			bound: []*state.PodInfo{schedulertest.MakePod("hermit").Namespace("red-team").
				Without(bySelector(&metav1.LabelSelector{MatchLabels: map[string]string{"team": "none"}})).On("a1").Info()},
			want: []string{"b1", "b2"},
		},
		"a node without the key keeps nobody apart": {
			pod:   schedulertest.MakePod("p").Without(web(zoneKey)),
			bound: []*state.PodInfo{labelled("w", "web").On("n").Info()},
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("z").Zone("z")),
			want:  []string{"n", "z"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			nodes := tc.nodes
			if nodes == nil {
				nodes = twoZones()
			}
			var got []string
			cache := schedulertest.Cluster(nodes, tc.bound...)
			cache.SetNamespace("ns", map[string]string{"team": "none"})
			cache.SetNamespace("red-team", map[string]string{"team": "red"})
			cache.SetNamespace("blue-team", map[string]string{"team": "blue"})
			snapshot := schedulertest.Snapshot(cache)
			for _, node := range nodes {
				pod := *tc.pod
				pod.Change(func(p *keelsonv1.Pod) { p.Spec.NodeName = node.Name })
				if newPlanner(1).Plan(pod.Info(), snapshot).Node != "" {
					got = append(got, node.Name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("fits on %v, want %v", got, tc.want)
			}
		})
	}
}

// Cases after upstream's TestSingleConstraint and TestMultipleConstraints.
func TestTopologySpread(t *testing.T) {
	const hard = corev1.DoNotSchedule
	web := func(name string) *schedulertest.Pod { return labelled(name, "web") }
	threeAndNone := []*state.PodInfo{web("1").On("a1").Info(), web("2").On("a1").Info(), web("3").On("a2").Info()}
	tests := map[string]struct {
		pod   *schedulertest.Pod
		bound []*state.PodInfo
		nodes []*keelsonv1.Node
		want  []string
	}{
		"an empty cluster":          {pod: web("p").Spread(1, zoneKey, hard, "app", "web"), want: []string{"a1", "a2", "b1", "b2"}},
		"the emptier zone":          {pod: web("p").Spread(1, zoneKey, hard, "app", "web"), bound: threeAndNone, want: []string{"b1", "b2"}},
		"a skew that is wide":       {pod: web("p").Spread(4, zoneKey, hard, "app", "web"), bound: threeAndNone, want: []string{"a1", "a2", "b1", "b2"}},
		"the emptier nodes":         {pod: web("p").Spread(1, hostname, hard, "app", "web"), bound: threeAndNone, want: []string{"b1", "b2"}},
		"zones and nodes":           {pod: web("p").Spread(3, zoneKey, hard, "app", "web").Spread(2, hostname, hard, "app", "web"), bound: threeAndNone, want: []string{"b1", "b2"}},
		"pods that are going":       {pod: web("p").Spread(1, zoneKey, hard, "app", "web"), bound: []*state.PodInfo{web("1").On("a1").Deleting().Info()}, want: []string{"a1", "a2", "b1", "b2"}},
		"pods of another namespace": {pod: web("p").Spread(1, zoneKey, hard, "app", "web"), bound: []*state.PodInfo{web("1").Namespace("other").On("a1").Info()}, want: []string{"a1", "a2", "b1", "b2"}},
		"a pod that does not count": {pod: schedulertest.MakePod("p").Spread(1, zoneKey, hard, "app", "web"), bound: []*state.PodInfo{web("1").On("a1").Info()}, want: []string{"a1", "a2", "b1", "b2"}},
		"a node without the label": {
			pod:   web("p").Spread(1, zoneKey, hard, "app", "web"),
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("z").Zone("z")),
			want:  []string{"z"},
		},
		"fewer domains than asked for": {
			pod:   web("p").Spread(1, zoneKey, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) { c.MinDomains = new(int32(3)) }),
			bound: []*state.PodInfo{web("1").On("a1").Info(), web("2").On("b1").Info()},
		},
		"as many domains as asked for": {
			pod:   web("p").Spread(1, zoneKey, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) { c.MinDomains = new(int32(2)) }),
			bound: []*state.PodInfo{web("1").On("a1").Info(), web("2").On("b1").Info()},
			want:  []string{"a1", "a2", "b1", "b2"},
		},
		"nodes that the pod cannot go to do not count": {
			pod:   web("p").Selects("disk", "ssd").Spread(1, hostname, hard, "app", "web"),
			bound: []*state.PodInfo{web("1").On("n").Info()},
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n").Label("disk", "ssd"), schedulertest.MakeNode("m")),
			want:  []string{"n"},
		},
		"unless the policy ignores that": {
			pod: web("p").Selects("disk", "ssd").Spread(1, hostname, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				c.NodeAffinityPolicy = new(corev1.NodeInclusionPolicyIgnore)
			}),
			bound: []*state.PodInfo{web("1").On("n").Info()},
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n").Label("disk", "ssd"), schedulertest.MakeNode("m")),
		},
		"tainted nodes count": {
			pod:   web("p").Spread(1, hostname, hard, "app", "web"),
			bound: []*state.PodInfo{web("1").On("n").Info()},
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("m").Taint("k", corev1.TaintEffectNoSchedule)),
		},
		"unless the policy honours taints": {
			pod: web("p").Spread(1, hostname, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				c.NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
			}),
			bound: []*state.PodInfo{web("1").On("n").Info()},
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("m").Taint("k", corev1.TaintEffectNoSchedule)),
			want:  []string{"n"},
		},
		"label keys count one version only": {
			pod: web("p").Label("hash", "2").Spread(1, zoneKey, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				c.MatchLabelKeys = []string{"hash"}
			}),
			bound: []*state.PodInfo{web("1").Label("hash", "1").On("a1").Info(), web("2").Label("hash", "2").On("b1").Info()},
			want:  []string{"a1", "a2"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			nodes := tc.nodes
			if nodes == nil {
				nodes = twoZones()
			}
			var got []string
			snapshot := schedulertest.SnapshotOf(nodes, tc.bound...)
			for _, node := range nodes {
				pod := *tc.pod
				pod.Change(func(p *keelsonv1.Pod) { p.Spec.NodeName = node.Name })
				if newPlanner(1).Plan(pod.Info(), snapshot).Node != "" {
					got = append(got, node.Name)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("fits on %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRefusalsAreUpstreams(t *testing.T) {
	web := schedulertest.Term(hostname, "app", "web")
	one := schedulertest.Nodes(schedulertest.MakeNode("n"))
	tests := map[string]struct {
		pod   *schedulertest.Pod
		bound []*state.PodInfo
		nodes []*keelsonv1.Node
		want  string
	}{
		"affinity":               {pod: schedulertest.MakePod("p").With(web), want: "0/1 nodes are available: 1 node(s) didn't match pod affinity rules."},
		"anti-affinity":          {pod: schedulertest.MakePod("p").Without(web), bound: []*state.PodInfo{labelled("w", "web").On("n").Info()}, want: "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."},
		"existing anti-affinity": {pod: labelled("p", "web"), bound: []*state.PodInfo{schedulertest.MakePod("h").Without(web).On("n").Info()}, want: "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."},
		"spreading": {pod: labelled("p", "web").Spread(1, hostname, corev1.DoNotSchedule, "app", "web"),
			nodes: schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("m").Cordon()), bound: []*state.PodInfo{labelled("w", "web").On("n").Info()},
			want: "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable."},
		"spreading without the label": {pod: labelled("p", "web").Spread(1, "rack", corev1.DoNotSchedule, "app", "web"),
			want: "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label)."},
		"an extended resource": {pod: schedulertest.MakePod("p").AsksFor("example.com/gpu", "1"), want: "0/1 nodes are available: 1 Insufficient example.com/gpu."},
		"ephemeral storage":    {pod: schedulertest.MakePod("p").AsksFor(corev1.ResourceEphemeralStorage, "1Gi"), want: "0/1 nodes are available: 1 Insufficient ephemeral-storage."},
		"a name of a node that is not there": {
			pod:  schedulertest.MakePod("p").Requires(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"gone"}}}}),
			want: "0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity].",
		},
		"names that contradict each other": {
			pod: schedulertest.MakePod("p").Requires(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{
				{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"a"}}, {Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}),
			want: "0/1 nodes are available: pod affinity terms conflict.",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			nodes := tc.nodes
			if nodes == nil {
				nodes = one
			}
			got := newPlanner(1).Plan(tc.pod.Info(), schedulertest.SnapshotOf(nodes, tc.bound...))
			if got.Refusal == nil {
				t.Fatalf("placed on %s", got.Node)
			}
			if got.Refusal.Message() != tc.want {
				t.Errorf("refusal %q, want %q", got.Refusal.Message(), tc.want)
			}
		})
	}
}

// Init containers, sidecars, overhead and the Pod's own requests are summed as upstream
// does (component-helpers/resource); the last unit decides.
func TestWhatAPodTakes(t *testing.T) {
	cpu := func(amount string) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: schedulertest.MakePod("").Asks(amount, "").Obj().Spec.Containers[0].Resources.Requests}
	}
	always := new(corev1.ContainerRestartPolicyAlways)
	tests := map[string]struct {
		change func(*corev1.PodSpec)
		want   string
	}{
		"the sum of containers": {func(s *corev1.PodSpec) {
			s.Containers = []corev1.Container{{Resources: cpu("1")}, {Resources: cpu("2")}}
		}, "3"},
		"a larger init container": {func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Resources: cpu("3")}, {Resources: cpu("2")}}
			s.Containers = []corev1.Container{{Resources: cpu("1")}}
		}, "3"},
		"sidecars run beside": {func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Resources: cpu("1"), RestartPolicy: always}, {Resources: cpu("2")}}
			s.Containers = []corev1.Container{{Resources: cpu("1")}}
		}, "3"},
		"overhead": {func(s *corev1.PodSpec) {
			s.Containers[0].Resources = cpu("1")
			s.Overhead = cpu("500m").Requests
		}, "1500m"},
		"what the pod itself asks for": {func(s *corev1.PodSpec) {
			s.Containers[0].Resources = cpu("1")
			s.Resources = new(cpu("2"))
		}, "2"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := schedulertest.MakePod("p").Change(func(p *keelsonv1.Pod) { tc.change(&p.Spec) })
			want := schedulertest.MakePod("").Asks(tc.want, "").Info().Requests.MilliCPU
			if got := pod.Info().Requests.MilliCPU; got != want {
				t.Errorf("takes %dm, want %dm", got, want)
			}
		})
	}
}

func TestNominatedPodsKeepTheirPlace(t *testing.T) {
	nodes := schedulertest.Nodes(schedulertest.MakeNode("n").Room("1", "8Gi", "110"))
	tests := map[string]struct {
		nominated, pod *schedulertest.Pod
		fits           bool
	}{
		"from a pod of lower priority":      {schedulertest.MakePod("first").Asks("1", "").Priority(10), schedulertest.MakePod("p").Asks("1", "").Priority(5), false},
		"from a pod of equal priority":      {schedulertest.MakePod("first").Asks("1", "").Priority(10), schedulertest.MakePod("p").Asks("1", "").Priority(10), false},
		"not from a pod of higher priority": {schedulertest.MakePod("first").Asks("1", "").Priority(10), schedulertest.MakePod("p").Asks("1", "").Priority(11), true},
		"not from itself":                   {schedulertest.MakePod("p").Asks("1", "").Priority(10), schedulertest.MakePod("p").Asks("1", "").Priority(10), true},
		"affinity does not count on it":     {labelled("first", "web").Priority(10), schedulertest.MakePod("p").Priority(5).With(schedulertest.Term(hostname, "app", "web")), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cache := schedulertest.Cluster(nodes)
			cache.Nominate(tc.nominated.Info(), "n")
			got := newPlanner(1).Plan(tc.pod.Info(), schedulertest.Snapshot(cache))
			if fits := got.Node == "n"; fits != tc.fits {
				t.Errorf("fits: %t, want %t", fits, tc.fits)
			}
		})
	}
}
