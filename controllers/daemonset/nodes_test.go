package daemonset

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	upstreamappsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

func node(name string, labels map[string]string, taints ...corev1.Taint) *keelsonv1.Node {
	return &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Spec: corev1.NodeSpec{Taints: taints}}
}

func taint(key string, effect corev1.TaintEffect) corev1.Taint {
	return corev1.Taint{Key: key, Effect: effect}
}

func TestEligibility(t *testing.T) {
	selects := func(s *corev1.PodTemplateSpec) { s.Spec.NodeSelector = map[string]string{"disk": "ssd"} }
	requires := func(term corev1.NodeSelectorTerm) func(*corev1.PodTemplateSpec) {
		return func(s *corev1.PodTemplateSpec) {
			s.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term}},
			}}
		}
	}
	onlyNamed := requires(corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{
		{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{"other"}}}})
	labelled := requires(corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
		{Key: "zone", Operator: corev1.NodeSelectorOpExists}}})
	tolerates := func(s *corev1.PodTemplateSpec) {
		s.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	}
	hostNetwork := func(s *corev1.PodTemplateSpec) { s.Spec.HostNetwork = true }
	ssd, zone := map[string]string{"disk": "ssd"}, map[string]string{"zone": "z"}
	for name, tc := range map[string]struct {
		template  func(*corev1.PodTemplateSpec)
		node      *keelsonv1.Node
		run, stay bool
	}{
		"any node":                                  {node: node("n", nil), run: true, stay: true},
		"a named node":                              {template: func(s *corev1.PodTemplateSpec) { s.Spec.NodeName = "n" }, node: node("n", nil), run: true, stay: true},
		"not the named node":                        {template: func(s *corev1.PodTemplateSpec) { s.Spec.NodeName = "m" }, node: node("n", nil)},
		"selected":                                  {template: selects, node: node("n", ssd), run: true, stay: true},
		"not selected":                              {template: selects, node: node("n", zone)},
		"required labels":                           {template: labelled, node: node("n", zone), run: true, stay: true},
		"without required labels":                   {template: labelled, node: node("n", ssd)},
		"affinity to another node's name":           {template: onlyNamed, node: node("n", nil)},
		"affinity to this node's name":              {template: onlyNamed, node: node("other", nil), run: true, stay: true},
		"a taint keeps out and lets stay":           {node: node("n", nil, taint("dedicated", corev1.TaintEffectNoSchedule)), stay: true},
		"a taint drives out":                        {node: node("n", nil, taint("dedicated", corev1.TaintEffectNoExecute))},
		"a tolerated taint does neither":            {template: tolerates, node: node("n", nil, taint("dedicated", corev1.TaintEffectNoExecute)), run: true, stay: true},
		"a preference is none of ours":              {node: node("n", nil, taint("dedicated", corev1.TaintEffectPreferNoSchedule)), run: true, stay: true},
		"a lost node":                               {node: node("n", nil, taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute)), run: true, stay: true},
		"a cordoned node":                           {node: node("n", nil, taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule)), run: true, stay: true},
		"a node short of memory":                    {node: node("n", nil, taint(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule)), run: true, stay: true},
		"no network for those who need one":         {node: node("n", nil, taint(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)), stay: true},
		"no network for those who use the node's":   {template: hostNetwork, node: node("n", nil, taint(corev1.TaintNodeNetworkUnavailable, corev1.TaintEffectNoSchedule)), run: true, stay: true},
		"lost in the taint of a not-ready node too": {node: node("n", nil, taint(corev1.TaintNodeNotReady, corev1.TaintEffectNoSchedule)), stay: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := builders.MakeDaemonSet("d")
			if tc.template != nil {
				b.Template(tc.template)
			}
			run, stay := eligibilityOf(&b.Obj().Spec).of(tc.node)
			if run != tc.run || stay != tc.stay {
				t.Errorf("run %v, stay %v; want %v, %v", run, stay, tc.run, tc.stay)
			}
		})
	}
}

func TestPodIsForOneNode(t *testing.T) {
	preferred := []corev1.PreferredSchedulingTerm{{Weight: 1}}
	ds := builders.MakeDaemonSet("d").Template(func(s *corev1.PodTemplateSpec) {
		s.Spec.Affinity = &corev1.Affinity{
			NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: preferred,
				RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
					{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: corev1.NodeSelectorOpExists}}}}},
			},
			PodAntiAffinity: &corev1.PodAntiAffinity{},
		}
		s.Spec.Tolerations = []corev1.Toleration{
			{Key: "mine", Operator: corev1.TolerationOpExists},
			{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(5))},
		}
	}).Obj()
	owner := podcontrol.Owner{Object: ds, Kind: kind}
	before := ds.Spec.Template.DeepCopy()
	ds.Annotations = map[string]string{upstreamappsv1.DeprecatedTemplateGeneration: "many"}
	if value, labelled := renderPod(owner, &ds.Spec.Template, "hash", "n1").Labels["pod-template-generation"]; labelled {
		t.Errorf("a generation that is no number became the label %q", value)
	}
	ds.Annotations = map[string]string{upstreamappsv1.DeprecatedTemplateGeneration: "7"}
	pod := renderPod(owner, &ds.Spec.Template, "hash", "n1")
	if got := pod.Labels["pod-template-generation"]; got != "7" {
		t.Errorf("template generation %q, want 7", got)
	}
	if diff := cmp.Diff(before, &ds.Spec.Template); diff != "" {
		t.Errorf("the template was changed (-before +after):\n%s", diff)
	}
	if got := targetNode(pod); got != "n1" {
		t.Errorf("target %q, want n1", got)
	}
	if pod.Spec.NodeName != "" || pod.Labels[hashLabel] != "hash" || pod.Labels["app"] != "d" || pod.GenerateName != "d-" {
		t.Errorf("node %q, labels %v, generateName %q", pod.Spec.NodeName, pod.Labels, pod.GenerateName)
	}
	if pod.Spec.Affinity.PodAntiAffinity == nil || cmp.Diff(preferred, pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution) != "" {
		t.Errorf("the rest of the affinity is lost: %+v", pod.Spec.Affinity)
	}
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	want := []corev1.Toleration{
		exists("mine", ""),
		exists(corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute),
		exists(corev1.TaintNodeDiskPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeMemoryPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodePIDPressure, corev1.TaintEffectNoSchedule),
		exists(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule),
	}
	if diff := cmp.Diff(want, pod.Spec.Tolerations); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
}

func TestPlaces(t *testing.T) {
	e := eligibilityOf(&builders.MakeDaemonSet("d").Obj().Spec)
	nodes := []keelsonv1.Node{*node("b", nil), *node("a", nil)}
	pending := daemon("a", "new").Node("").Obj()
	pending.Spec.Affinity = onlyOn("a", nil)
	pods := []*keelsonv1.Pod{
		pending,
		ready("a", "old").Obj(),
		daemon("b", "ended").Phase(corev1.PodFailed).Deleting(now).Obj(), // gone for our purposes
		ready("gone", "new").Obj(),
		builders.MakePod("anywhere").Obj(),
	}
	got := map[string][]string{}
	var order []string
	for _, place := range placesOf(e, nodes, pods) {
		order = append(order, place.name)
		for _, pod := range place.pods {
			got[place.name] = append(got[place.name], pod.Name)
		}
	}
	if diff := cmp.Diff(map[string][]string{"a": {"a-old", "a-new"}, "gone": {"gone-new"}}, got); diff != "" {
		t.Errorf("Pods of places (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "gone"}, order); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}
