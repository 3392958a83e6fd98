package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// forgetLabelKeys takes matchLabelKeys and mismatchLabelKeys out of an update's probe.
// Upstream merges them into the selectors when it creates a Pod, and the probe is a
// creation of a Pod whose selectors have them already, which upstream refuses.
func forgetLabelKeys(spec tree) {
	affinity := spec.child("affinity")
	for _, kind := range []string{"podAffinity", "podAntiAffinity"} {
		terms := affinity.child(kind)
		for _, term := range terms.children("requiredDuringSchedulingIgnoredDuringExecution") {
			forgetKeys(term)
		}
		for _, weighted := range terms.children("preferredDuringSchedulingIgnoredDuringExecution") {
			forgetKeys(weighted.child("podAffinityTerm"))
		}
	}
	for _, constraint := range spec.children("topologySpreadConstraints") {
		forgetKeys(constraint)
	}
}

func forgetKeys(t tree) {
	delete(t, "matchLabelKeys")
	delete(t, "mismatchLabelKeys")
}

// restoreLabelKeys gives the answer to such a probe back what forgetLabelKeys took. None
// of it has defaults.
func restoreLabelKeys(answer, user *corev1.PodSpec) {
	answer.TopologySpreadConstraints = user.TopologySpreadConstraints
	if user.Affinity == nil || answer.Affinity == nil {
		return
	}
	answer.Affinity.PodAffinity, answer.Affinity.PodAntiAffinity = user.Affinity.PodAffinity, user.Affinity.PodAntiAffinity
}

// checkGatesRemoved allows gates to go, not to come.
func checkGatesRemoved(now, old []corev1.PodSchedulingGate) field.ErrorList {
	before := map[string]bool{}
	for _, gate := range old {
		before[gate.Name] = true
	}
	var errs field.ErrorList
	for i, gate := range now {
		if !before[gate.Name] {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"),
				fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	return errs
}

// checkTightened allows a Pod that its gates hold back to ask for fewer Nodes than
// before, and restores what it asked for in munged.
func checkTightened(munged, old *corev1.PodSpec) field.ErrorList {
	if len(old.SchedulingGates) == 0 {
		return nil
	}
	var errs field.ErrorList
	for key, value := range old.NodeSelector {
		if now, has := munged.NodeSelector[key]; !has || now != value {
			errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), munged.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
			break
		}
	}
	munged.NodeSelector = old.NodeSelector
	before, now := nodeAffinityOf(old), nodeAffinityOf(munged)
	if equality.Semantic.DeepEqual(before, now) {
		return errs
	}
	errs = append(errs, checkAffinityTightened(now, before)...)
	switch {
	case munged.Affinity == nil:
		munged.Affinity = &corev1.Affinity{NodeAffinity: before}
	case old.Affinity == nil && munged.Affinity.PodAffinity == nil && munged.Affinity.PodAntiAffinity == nil:
		munged.Affinity = nil
	default:
		munged.Affinity.NodeAffinity = before
	}
	return errs
}

func nodeAffinityOf(spec *corev1.PodSpec) *corev1.NodeAffinity {
	if spec.Affinity == nil {
		return nil
	}
	return spec.Affinity.NodeAffinity
}

func checkAffinityTightened(now, old *corev1.NodeAffinity) field.ErrorList {
	before, after := requiredTerms(old), requiredTerms(now)
	if len(before) == 0 {
		return nil // anything may be set
	}
	path := specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
	if len(before) != len(after) {
		return field.ErrorList{field.Invalid(path, after, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	var errs field.ErrorList
	for i := range before {
		if !onlyAdded(after[i], before[i]) {
			errs = append(errs, field.Invalid(path.Index(i), after[i], "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}

func requiredTerms(affinity *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
	if affinity == nil || affinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	return affinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
}

// onlyAdded tells whether a term asks for all that it asked for, and what it asks for
// more comes after it. An empty term matches nothing and would match more.
func onlyAdded(now, old corev1.NodeSelectorTerm) bool {
	if len(old.MatchExpressions)+len(old.MatchFields) == 0 {
		return len(now.MatchExpressions)+len(now.MatchFields) == 0
	}
	return startsWith(now.MatchExpressions, old.MatchExpressions) && startsWith(now.MatchFields, old.MatchFields)
}

func startsWith(now, old []corev1.NodeSelectorRequirement) bool {
	return len(now) >= len(old) && equality.Semantic.DeepEqual(now[:len(old):len(old)], old[:len(old):len(old)])
}
