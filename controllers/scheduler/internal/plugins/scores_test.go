package plugins_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

const (
	hostname = corev1.LabelHostname
	zoneKey  = corev1.LabelTopologyZone
	mega     = 1024 * 1024
)

// byLabel selects the Pods with the same label "app".
type byLabel struct{}

func (byLabel) Selector(pod *state.PodInfo) labels.Selector {
	if app := pod.Labels()["app"]; app != "" {
		return labels.SelectorFromSet(labels.Set{"app": app})
	}
	return labels.Set{}.AsSelector()
}

// Cases after upstream's tests of the plug-ins' Score, with its numbers.
func TestScores(t *testing.T) {
	term := func(key string) corev1.PodAffinityTerm { return schedulertest.Term(key, "app", "web") }
	web := func(name string) *schedulertest.Pod { return schedulertest.MakePod(name).Label("app", "web") }
	room := func(name, cpu, memory string) *schedulertest.Node {
		return schedulertest.MakeNode(name).Room(cpu, memory, "110")
	}
	settings := func(change func(*plugins.Settings)) plugins.Settings {
		s := plugins.DefaultSettings()
		s.Workloads = byLabel{}
		if change != nil {
			change(&s)
		}
		return s
	}
	zones := schedulertest.Nodes(schedulertest.MakeNode("a").Zone("z1"), schedulertest.MakeNode("b").Zone("z1"), schedulertest.MakeNode("c").Zone("z2"))
	most := func(s *plugins.Settings) { s.Strategy = plugins.MostAllocated }
	ratio := func(s *plugins.Settings) {
		s.Strategy = plugins.RequestedToCapacityRatio
		s.Shape = []plugins.Point{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 100}}
	}
	gpus := func(s *plugins.Settings) {
		s.FitResources = []plugins.Resource{{Name: "example.com/gpu", Weight: 3}, {Name: corev1.ResourceCPU, Weight: 1}}
	}
	prefer := func(key, value string) []corev1.PreferredSchedulingTerm {
		return []corev1.PreferredSchedulingTerm{{Weight: 5, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: key, Operator: corev1.NodeSelectorOpIn, Values: []string{value}}}}}}
	}
	tests := map[string]struct {
		plugin   string
		settings plugins.Settings
		nodes    []*keelsonv1.Node
		bound    []*schedulertest.Pod
		pod      *schedulertest.Pod
		want     []int64 // nil: no opinion
	}{
		"least allocated: everything free, half, all": {plugins.NameNodeResourcesFit, settings(nil),
			schedulertest.Nodes(room("free", "400", "4000Gi"), room("half", "4", "4Gi"), room("full", "2", "2Gi")), nil,
			schedulertest.MakePod("p").Asks("2", "2Gi"), []int64{99, 50, 0}},
		"least allocated: the mean of both": {plugins.NameNodeResourcesFit, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")), nil,
			schedulertest.MakePod("p").Asks("4", "0"), []int64{50}},
		"least allocated: bound pods count": {plugins.NameNodeResourcesFit, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")),
			[]*schedulertest.Pod{schedulertest.MakePod("o").Asks("2", "2Gi").On("n")}, schedulertest.MakePod("p").Asks("1", "1Gi"), []int64{25}},
		"least allocated: pods without requests count as if they asked": {plugins.NameNodeResourcesFit, settings(nil), schedulertest.Nodes(room("n", "1", "2000Mi")), nil,
			schedulertest.MakePod("p"), []int64{90}},
		"least allocated: a node without resources": {plugins.NameNodeResourcesFit, settings(nil), schedulertest.Nodes(room("n", "0", "0")), nil,
			schedulertest.MakePod("p"), []int64{0}},
		"most allocated: half and more than all": {plugins.NameNodeResourcesFit, settings(most),
			schedulertest.Nodes(room("half", "4", "4Gi"), room("small", "1", "1Gi")), nil, schedulertest.MakePod("p").Asks("2", "2Gi"), []int64{50, 100}},
		"requested to capacity: a rising line": {plugins.NameNodeResourcesFit, settings(ratio),
			schedulertest.Nodes(room("n", "4", "4Gi"), room("m", "8", "8Gi")), nil, schedulertest.MakePod("p").Asks("2", "2Gi"), []int64{50, 25}},
		"an extended resource that the pod asks for": {plugins.NameNodeResourcesFit, settings(gpus),
			schedulertest.Nodes(room("n", "4", "4Gi").Has("example.com/gpu", "4"), room("m", "4", "4Gi")), nil,
			schedulertest.MakePod("p").Asks("2", "").AsksFor("example.com/gpu", "1"), []int64{(75*3 + 50) / 4, 50}},
		"an extended resource that it does not ask for": {plugins.NameNodeResourcesFit, settings(gpus),
			schedulertest.Nodes(room("n", "4", "4Gi").Has("example.com/gpu", "4")), nil, schedulertest.MakePod("p").Asks("1", ""), []int64{75}},

		"balanced: no change":  {plugins.NameBalancedAllocation, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")), nil, schedulertest.MakePod("p").Asks("1", "1Gi"), []int64{75}},
		"balanced: made worse": {plugins.NameBalancedAllocation, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")), nil, schedulertest.MakePod("p").Asks("4", ""), []int64{50}},
		"balanced: made better": {plugins.NameBalancedAllocation, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")),
			[]*schedulertest.Pod{schedulertest.MakePod("o").Asks("2", "").On("n")}, schedulertest.MakePod("p").Asks("", "2Gi"), []int64{87}},
		"balanced: no opinion without requests": {plugins.NameBalancedAllocation, settings(nil), schedulertest.Nodes(room("n", "4", "4Gi")), nil, schedulertest.MakePod("p"), nil},

		"taints: none, one, two": {plugins.NameTaintToleration, settings(nil), schedulertest.Nodes(
			schedulertest.MakeNode("none"), schedulertest.MakeNode("one").Taint("a", corev1.TaintEffectPreferNoSchedule),
			schedulertest.MakeNode("two").Taint("a", corev1.TaintEffectPreferNoSchedule).Taint("b", corev1.TaintEffectPreferNoSchedule)), nil,
			schedulertest.MakePod("p"), []int64{100, 50, 0}},
		"taints: tolerated ones do not count": {plugins.NameTaintToleration, settings(nil), schedulertest.Nodes(
			schedulertest.MakeNode("none"), schedulertest.MakeNode("one").Taint("a", corev1.TaintEffectPreferNoSchedule)), nil,
			schedulertest.MakePod("p").Tolerates(corev1.Toleration{Key: "a", Operator: corev1.TolerationOpExists}), []int64{100, 100}},
		"taints: others do not count": {plugins.NameTaintToleration, settings(nil), schedulertest.Nodes(
			schedulertest.MakeNode("none"), schedulertest.MakeNode("one").Taint("a", corev1.TaintEffectNoSchedule)), nil, schedulertest.MakePod("p"), []int64{100, 100}},

		"node affinity: weights are summed": {plugins.NameNodeAffinity, settings(nil), schedulertest.Nodes(
			schedulertest.MakeNode("both").Label("d", "ssd").Label("r", "eu"), schedulertest.MakeNode("one").Label("d", "ssd"), schedulertest.MakeNode("none")), nil,
			schedulertest.MakePod("p").Prefers(10, "d", "ssd").Prefers(10, "r", "eu"), []int64{100, 50, 0}},
		"node affinity: no preference": {plugins.NameNodeAffinity, settings(nil), zones, nil, schedulertest.MakePod("p"), nil},
		"node affinity: the profile's preference": {plugins.NameNodeAffinity, settings(func(s *plugins.Settings) {
			s.AddedAffinity = &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: prefer(zoneKey, "z2")}
		}), zones, nil, schedulertest.MakePod("p"), []int64{0, 0, 100}},

		"images: on all nodes, large, small, none": {plugins.NameImageLocality, settings(nil), schedulertest.Nodes(
			schedulertest.MakeNode("large").Image("web:1", 1000*mega), schedulertest.MakeNode("small").Image("web:1", 10*mega), schedulertest.MakeNode("none").Image("db:1", 1000*mega)), nil,
			schedulertest.MakePod("p").Image("web:1"), []int64{65, 0, 0}},
		"images: a name without a tag": {plugins.NameImageLocality, settings(nil), schedulertest.Nodes(schedulertest.MakeNode("n").Image("r/web:latest", 1000*mega)), nil,
			schedulertest.MakePod("p").Image("r/web"), []int64{100}},
		"images: nobody has it": {plugins.NameImageLocality, settings(nil), zones, nil, schedulertest.MakePod("p").Image("web:1"), nil},

		"pod affinity: near a pod": {plugins.NameInterPodAffinity, settings(nil), zones, []*schedulertest.Pod{web("w").On("a")},
			schedulertest.MakePod("p").PrefersWith(10, term(zoneKey)), []int64{100, 100, 0}},
		"pod affinity: away from a pod": {plugins.NameInterPodAffinity, settings(nil), zones, []*schedulertest.Pod{web("w").On("a")},
			schedulertest.MakePod("p").PrefersWithout(10, term(zoneKey)), []int64{0, 0, 100}},
		"pod affinity: zone and node": {plugins.NameInterPodAffinity, settings(nil), zones, []*schedulertest.Pod{web("w").On("a")},
			schedulertest.MakePod("p").PrefersWith(10, term(zoneKey)).PrefersWithout(10, term(hostname)), []int64{0, 100, 0}},
		"pod affinity: a pod there wants it near": {plugins.NameInterPodAffinity, settings(nil), zones,
			[]*schedulertest.Pod{schedulertest.MakePod("o").PrefersWith(10, term(zoneKey)).On("c")}, web("p"), []int64{0, 0, 100}},
		"pod affinity: a pod there wants it away": {plugins.NameInterPodAffinity, settings(nil), zones,
			[]*schedulertest.Pod{schedulertest.MakePod("o").PrefersWithout(10, term(zoneKey)).On("c")}, web("p"), []int64{100, 100, 0}},
		"pod affinity: a pod there requires it near": {plugins.NameInterPodAffinity, settings(nil), zones,
			[]*schedulertest.Pod{schedulertest.MakePod("o").With(term(zoneKey)).On("c")}, web("p"), []int64{0, 0, 100}},
		"pod affinity: nobody cares": {plugins.NameInterPodAffinity, settings(nil), zones, []*schedulertest.Pod{web("w").On("a")}, schedulertest.MakePod("p"), nil},
		"pod affinity: others' preferences are switched off": {plugins.NameInterPodAffinity, settings(func(s *plugins.Settings) { s.IgnorePreferredTermsOfExistingPods = true }), zones,
			[]*schedulertest.Pod{schedulertest.MakePod("o").PrefersWith(10, term(zoneKey)).On("c")}, web("p"), nil},

		"spread: the emptier zone": {plugins.NamePodTopologySpread, settings(nil), zones, []*schedulertest.Pod{web("1").On("a"), web("2").On("b")},
			web("p").Spread(1, zoneKey, corev1.ScheduleAnyway, "app", "web"), []int64{0, 0, 100}},
		"spread: nothing yet": {plugins.NamePodTopologySpread, settings(nil), zones, nil,
			web("p").Spread(1, zoneKey, corev1.ScheduleAnyway, "app", "web"), []int64{100, 100, 100}},
		"spread: nodes without the label": {plugins.NamePodTopologySpread, settings(nil), schedulertest.Nodes(schedulertest.MakeNode("n"), schedulertest.MakeNode("z").Zone("z")), nil,
			web("p").Spread(1, zoneKey, corev1.ScheduleAnyway, "app", "web"), []int64{0, 100}},
		"spread: hard constraints do not score": {plugins.NamePodTopologySpread, settings(nil), zones, nil,
			web("p").Spread(1, zoneKey, corev1.DoNotSchedule, "app", "web"), nil},
		// One Pod on a: log(3+2) for its node and log(2+2) for its zone, and 2+4 of skews.
		"spread: by default over nodes and zones":      {plugins.NamePodTopologySpread, settings(nil), zones, []*schedulertest.Pod{web("1").On("a")}, web("p"), []int64{66, 88, 100}},
		"spread: by default only what serves together": {plugins.NamePodTopologySpread, settings(nil), zones, []*schedulertest.Pod{web("1").On("a")}, schedulertest.MakePod("p"), nil},
		"spread: the administrator's defaults": {plugins.NamePodTopologySpread, settings(func(s *plugins.Settings) {
			s.SystemDefaults = false
			s.DefaultConstraints = []corev1.TopologySpreadConstraint{{MaxSkew: 1, TopologyKey: zoneKey, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: (*metav1.LabelSelector)(nil)}}
		}), zones, []*schedulertest.Pod{web("1").On("a")}, web("p"), []int64{0, 0, 100}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var bound []*state.PodInfo
			for _, p := range tc.bound {
				bound = append(bound, p.Info())
			}
			snapshot := schedulertest.SnapshotOf(tc.nodes, bound...)
			plugin, err := plugins.NewScore(tc.plugin, tc.settings)
			if err != nil {
				t.Fatal(err)
			}
			scorer := plugin.PrepareScore(tc.pod.Info(), snapshot, snapshot.Nodes())
			var got []int64
			if scorer != nil {
				for _, node := range snapshot.Nodes() {
					got = append(got, scorer.Node(node))
				}
				if scorer.Normalize != nil {
					scorer.Normalize(got)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("scores (-want +got):\n%s", diff)
			}
		})
	}
}
