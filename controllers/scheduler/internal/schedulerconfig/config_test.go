package schedulerconfig

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
)

const header = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"

func TestDefaultIsUpstreams(t *testing.T) {
	got := Default("")
	want := &Config{InitialBackoff: time.Second, MaxBackoff: 10 * time.Second, Profiles: []Profile{{
		SchedulerName: "default-scheduler",
		Filters: []string{"NodeName", "NodeUnschedulable", "TaintToleration", "NodeAffinity", "NodePorts",
			"NodeResourcesFit", "PodTopologySpread", "InterPodAffinity"},
		Scores: []Weighted{{"TaintToleration", 3}, {"NodeAffinity", 2}, {"NodeResourcesFit", 1}, {"PodTopologySpread", 2},
			{"InterPodAffinity", 2}, {"NodeResourcesBalancedAllocation", 1}, {"ImageLocality", 1}},
		Preemption: &plugins.Preemption{MinCandidatePercentage: 10, MinCandidateNodes: 100},
		Gates:      true,
		Settings:   plugins.DefaultSettings(),
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("default (-want +got):\n%s", diff)
	}
	parsed, err := Parse([]byte(header))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, parsed); diff != "" {
		t.Errorf("an empty file (-want +got):\n%s", diff)
	}
}

func TestProfiles(t *testing.T) {
	tests := map[string]struct {
		file string
		want func(*Config)
	}{
		"weights of scores": {
			"profiles: [{plugins: {score: {enabled: [{name: NodeResourcesFit, weight: 7}], disabled: [{name: ImageLocality}]}}}]",
			func(c *Config) {
				c.Profiles[0].Scores = []Weighted{{"NodeResourcesFit", 7}, {"TaintToleration", 3}, {"NodeAffinity", 2},
					{"PodTopologySpread", 2}, {"InterPodAffinity", 2}, {"NodeResourcesBalancedAllocation", 1}}
			},
		},
		"a weight everywhere": {
			"profiles: [{plugins: {multiPoint: {enabled: [{name: TaintToleration, weight: 9}]}}}]",
			func(c *Config) { c.Profiles[0].Scores[0].Weight = 9 },
		},
		"a plug-in switched off everywhere": {
			"profiles: [{plugins: {multiPoint: {disabled: [{name: InterPodAffinity}]}}}]",
			func(c *Config) {
				p := &c.Profiles[0]
				p.Filters = p.Filters[:7]
				p.Scores = append(p.Scores[:4:4], p.Scores[5:]...)
			},
		},
		"only what is named": {
			"profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit}, {name: PrioritySort}, {name: DefaultBinder}]}}}]",
			func(c *Config) {
				p := &c.Profiles[0]
				p.Filters, p.Scores, p.Preemption, p.Gates = []string{"NodeResourcesFit"}, []Weighted{{"NodeResourcesFit", 1}}, nil, false
			},
		},
		"filters but no scores": {
			"profiles: [{plugins: {score: {disabled: [{name: '*'}]}}}]",
			func(c *Config) { c.Profiles[0].Scores = nil },
		},
		"no preemption": {
			"profiles: [{plugins: {postFilter: {disabled: [{name: DefaultPreemption}]}}}]",
			func(c *Config) { c.Profiles[0].Preemption = nil },
		},
		"two profiles with their percentages, and backoff": {
			"percentageOfNodesToScore: 30\npodInitialBackoffSeconds: 2\npodMaxBackoffSeconds: 20\nprofiles: [{schedulerName: a}, {schedulerName: b, percentageOfNodesToScore: 50}]",
			func(c *Config) {
				c.InitialBackoff, c.MaxBackoff = 2*time.Second, 20*time.Second
				a, b := Default("a").Profiles[0], Default("b").Profiles[0]
				a.PercentageOfNodesToScore, b.PercentageOfNodesToScore = 30, 50
				c.Profiles = []Profile{a, b}
			},
		},
		"arguments of plug-ins": {`
profiles:
- pluginConfig:
  - name: NodeResourcesFit
    args:
      ignoredResourceGroups: [example.com]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: example.com/gpu, weight: 5}, {name: cpu}]
        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}
  - name: InterPodAffinity
    args: {apiVersion: kubescheduler.config.k8s.io/v1, kind: InterPodAffinityArgs, hardPodAffinityWeight: 5}
  - name: DefaultPreemption
    args: {minCandidateNodesPercentage: 20, minCandidateNodesAbsolute: 5}
  - name: NodeResourcesBalancedAllocation
    args: {resources: [{name: cpu}, {name: example.com/gpu}]}
`,
			func(c *Config) {
				p := &c.Profiles[0]
				p.Preemption = &plugins.Preemption{MinCandidatePercentage: 20, MinCandidateNodes: 5}
				p.Settings.IgnoredResourceGroups = []string{"example.com"}
				p.Settings.Strategy = plugins.RequestedToCapacityRatio
				p.Settings.FitResources = []plugins.Resource{{Name: "example.com/gpu", Weight: 5}, {Name: "cpu", Weight: 1}}
				p.Settings.Shape = []plugins.Point{{Utilization: 0, Score: 0}, {Utilization: 100, Score: 100}}
				p.Settings.HardPodAffinityWeight = 5
				p.Settings.BalancedResources = []plugins.Resource{{Name: "cpu", Weight: 1}, {Name: "example.com/gpu", Weight: 1}}
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			want := Default("")
			tc.want(want)
			got, err := Parse([]byte(header + tc.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			for i := range got.Profiles {
				if _, err := got.Profiles[i].Build(nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestMistakesAreNamed(t *testing.T) {
	tests := map[string]struct {
		file string
		want []string
	}{
		"an unknown field":          {header + "profile: []", []string{`unknown field "profile"`}},
		"an unknown argument":       {header + "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {strategy: x}}]}]", []string{"profiles[0].pluginConfig[0].args", `unknown field "strategy"`}},
		"an unknown plug-in":        {header + "profiles: [{plugins: {score: {enabled: [{name: MyPlugin}]}}}]", []string{"profiles[0].plugins.score.enabled[0].name", "MyPlugin", "NodeResourcesFit"}},
		"an unknown one disabled":   {header + "profiles: [{plugins: {filter: {disabled: [{name: VolumeBinding}]}}}]", []string{"profiles[0].plugins.filter.disabled[0].name", "VolumeBinding"}},
		"a filter as a score":       {header + "profiles: [{plugins: {score: {enabled: [{name: NodeName}]}}}]", []string{"profiles[0].plugins.score.enabled[0].name", "does not extend score"}},
		"a point of its own":        {header + "profiles: [{plugins: {preFilter: {disabled: [{name: '*'}]}}}]", []string{"profiles[0].plugins.preFilter", "filter and score"}},
		"arguments for nobody":      {header + "profiles: [{pluginConfig: [{name: NodeName, args: {}}]}]", []string{"profiles[0].pluginConfig[0].name", "NodeName"}},
		"arguments of another kind": {header + "profiles: [{pluginConfig: [{name: NodeAffinity, args: {kind: InterPodAffinityArgs}}]}]", []string{"profiles[0].pluginConfig[0].args.kind"}},
		"a strategy nobody knows":   {header + "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Best}}}]}]", []string{"scoringStrategy.type", "Best", "LeastAllocated"}},
		"a shape that falls back":   {header + "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio, requestedToCapacityRatio: {shape: [{utilization: 50, score: 1}, {utilization: 50, score: 11}]}}}}]}]", []string{"shape[1].utilization", "increasing order", "shape[1].score"}},
		"spread defaults and system": {header + "profiles: [{pluginConfig: [{name: PodTopologySpread, args: {defaultConstraints: [{maxSkew: 0, topologyKey: '', whenUnsatisfiable: x, labelSelector: {}}]}}]}]",
			[]string{"defaultingType", "maxSkew", "topologyKey", "whenUnsatisfiable", "labelSelector"}},
		"a bad selector added":         {header + "profiles: [{pluginConfig: [{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: k, operator: Near}]}]}}}}]}]", []string{"args", "addedAffinity", "Near"}},
		"a weight out of range":        {header + "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]", []string{"hardPodAffinityWeight", "[0, 100]"}},
		"profiles without names":       {header + "profiles: [{}, {}]", []string{"profiles[0].schedulerName", "profiles[1].schedulerName"}},
		"profiles of one name":         {header + "profiles: [{schedulerName: a}, {schedulerName: a}]", []string{"profiles[1].schedulerName", "Duplicate"}},
		"a percentage out of range":    {header + "percentageOfNodesToScore: 101", []string{"percentageOfNodesToScore", "101"}},
		"backoff the wrong way round":  {header + "podInitialBackoffSeconds: 20", []string{"podMaxBackoffSeconds"}},
		"what the manager says":        {header + "leaderElection: {leaderElect: true}\nclientConnection: {qps: 5}\nextenders: [{urlPrefix: x}]\nparallelism: 4", []string{"leaderElection", "clientConnection", "extenders", "parallelism"}},
		"nothing to bind with":         {header + "profiles: [{plugins: {bind: {disabled: [{name: DefaultBinder}]}}}]", []string{"profiles[0].plugins.bind", "DefaultBinder"}},
		"no order":                     {header + "profiles: [{plugins: {multiPoint: {disabled: [{name: PrioritySort}]}}}]", []string{"queueSort", "PrioritySort"}},
		"another version of the file":  {"apiVersion: kubescheduler.config.k8s.io/v1beta3\nkind: KubeSchedulerConfiguration", []string{"v1beta3", "kubescheduler.config.k8s.io/v1"}},
		"preemption without any nodes": {header + "profiles: [{pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}}]}]", []string{"minCandidateNodesPercentage", "cannot be zero"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "scheduler.yaml")
			if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(tc.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not mention %q", err, want)
				}
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "scheduler's configuration") {
		t.Errorf("a file that is not there: %v", err)
	}
}
