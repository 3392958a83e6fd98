package admission

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func requirement(key string, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

func needs(terms ...corev1.NodeSelectorTerm) *corev1.Affinity {
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
	}}
}

func term(requirements ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: requirements}
}

// Cases are those of upstream's TestValidatePodUpdate about gates and what a gated Pod
// asks of its node.
func TestPlacementMayOnlyBeTightenedBehindGates(t *testing.T) {
	gates := func(names ...string) (all []corev1.PodSchedulingGate) {
		for _, name := range names {
			all = append(all, corev1.PodSchedulingGate{Name: name})
		}
		return all
	}
	const (
		selector = `spec.nodeSelector: only additions to spec.nodeSelector are allowed (no mutations or deletions)`
		terms    = `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: no additions/deletions to non-empty NodeSelectorTerms list are allowed`
		first    = `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: only additions are allowed (no mutations or deletions)`
		immobile = "may not change after creation: " + mutablePodFields
	)
	tests := map[string]struct {
		old, now corev1.PodSpec
		want     []string
	}{
		"all gates removed":  {old: corev1.PodSpec{SchedulingGates: gates("a", "b")}},
		"one gate removed":   {old: corev1.PodSpec{SchedulingGates: gates("a", "b")}, now: corev1.PodSpec{SchedulingGates: gates("b")}},
		"gates in new order": {old: corev1.PodSpec{SchedulingGates: gates("a", "b")}, now: corev1.PodSpec{SchedulingGates: gates("b", "a")}},
		"a gate added": {old: corev1.PodSpec{SchedulingGates: gates("a")}, now: corev1.PodSpec{SchedulingGates: gates("a", "b")},
			want: []string{"spec.schedulingGates[1].name: only deletion is allowed, but found new scheduling gate 'b'"}},
		"a gate on a pod without": {now: corev1.PodSpec{SchedulingGates: gates("a")},
			want: []string{"spec.schedulingGates[0].name: only deletion is allowed, but found new scheduling gate 'a'"}},
		"a selector added behind gates": {old: corev1.PodSpec{SchedulingGates: gates("a")}, now: corev1.PodSpec{SchedulingGates: gates("a"), NodeSelector: map[string]string{"k": "v"}}},
		"a selector added as the last gate goes": {old: corev1.PodSpec{SchedulingGates: gates("a")},
			now: corev1.PodSpec{NodeSelector: map[string]string{"k": "v"}}},
		"a selector changed behind gates": {old: corev1.PodSpec{SchedulingGates: gates("a"), NodeSelector: map[string]string{"k": "v"}},
			now: corev1.PodSpec{SchedulingGates: gates("a"), NodeSelector: map[string]string{"k": "w"}}, want: []string{selector}},
		"a selector removed behind gates": {old: corev1.PodSpec{SchedulingGates: gates("a"), NodeSelector: map[string]string{"k": "v"}},
			now: corev1.PodSpec{SchedulingGates: gates("a")}, want: []string{selector}},
		"a selector added without gates": {now: corev1.PodSpec{NodeSelector: map[string]string{"k": "v"}}, want: []string{"spec.nodeSelector: " + immobile}},
		"affinity added behind gates":    {old: corev1.PodSpec{SchedulingGates: gates("a")}, now: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))}},
		"a requirement added to a term": {old: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))},
			now: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v"), requirement("l", "w")))}},
		"a requirement changed": {old: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))},
			now: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "w")))}, want: []string{first}},
		"a term added": {old: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))},
			now: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")), term(requirement("l", "v")))}, want: []string{terms}},
		"an empty term filled": {old: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term())},
			now: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))}, want: []string{first}},
		"affinity removed": {old: corev1.PodSpec{SchedulingGates: gates("a"), Affinity: needs(term(requirement("k", "v")))},
			now: corev1.PodSpec{SchedulingGates: gates("a")}, want: []string{terms}},
		"pod affinity behind gates": {old: corev1.PodSpec{SchedulingGates: gates("a")},
			now:  corev1.PodSpec{SchedulingGates: gates("a"), Affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "k"}}}}},
			want: []string{"spec.affinity: " + immobile}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			errs, err := checkPodUpdate(&tc.now, &tc.old)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range errs {
				got = append(got, e.Field+": "+e.Detail)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLabelKeysAreMergedOnce(t *testing.T) {
	term := corev1.PodAffinityTerm{TopologyKey: "k", MatchLabelKeys: []string{"m"}, MismatchLabelKeys: []string{"n"},
		LabelSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "m", Operator: metav1.LabelSelectorOpIn, Values: []string{"1"}}}}}
	user := corev1.PodSpec{
		Affinity: &corev1.Affinity{
			PodAffinity:     &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{term}},
			PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: term}}},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{TopologyKey: "k", MatchLabelKeys: []string{"m"}}},
	}
	probe, err := toTree(user)
	if err != nil {
		t.Fatal(err)
	}
	forgetLabelKeys(probe)
	var answer corev1.PodSpec
	if raw, err := json.Marshal(probe); err != nil {
		t.Fatal(err)
	} else if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatal(err)
	}
	if got := answer.Affinity.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0]; got.MatchLabelKeys != nil || got.MismatchLabelKeys != nil || got.LabelSelector == nil {
		t.Errorf("the probe's term is %+v", got)
	}
	if got := answer.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm; got.MatchLabelKeys != nil {
		t.Errorf("the probe's preferred term is %+v", got)
	}
	if got := answer.TopologySpreadConstraints[0]; got.MatchLabelKeys != nil {
		t.Errorf("the probe's constraint is %+v", got)
	}
	restoreLabelKeys(&answer, &user)
	if diff := cmp.Diff(user, answer); diff != "" {
		t.Errorf("restored (-want +got):\n%s", diff)
	}
}
