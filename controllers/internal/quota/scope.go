package quota

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
)

// Matches says whether the quota concerns the object: it limits something that the
// object's kind can take, and the object is in all of its scopes. A quota with scopes
// concerns Pods only, and claims by their volume attributes class.
func Matches(quota *keelsonv1.ResourceQuota, o Object) bool {
	if len(o.names(quota.Status.Hard)) == 0 {
		return false
	}
	return inScopes(&quota.Spec, o)
}

func inScopes(spec *corev1.ResourceQuotaSpec, o Object) bool {
	for _, selector := range selectors(spec) {
		if !inScope(selector, o) {
			return false
		}
	}
	return true
}

// selectors are the scopes of a quota in their longer form.
func selectors(spec *corev1.ResourceQuotaSpec) []corev1.ScopedResourceSelectorRequirement {
	var all []corev1.ScopedResourceSelectorRequirement
	for _, scope := range spec.Scopes {
		all = append(all, corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists})
	}
	if spec.ScopeSelector != nil {
		all = append(all, spec.ScopeSelector.MatchExpressions...)
	}
	return all
}

func inScope(selector corev1.ScopedResourceSelectorRequirement, o Object) bool {
	if selector.ScopeName == corev1.ResourceQuotaScopeVolumeAttributesClass {
		return o.Claim != nil && named(selector, o.Claim.Spec.VolumeAttributesClassName)
	}
	if o.Pod == nil {
		return false
	}
	switch spec := &o.Pod.Spec; selector.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating(spec)
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating(spec)
	case corev1.ResourceQuotaScopeBestEffort:
		return qos.Class(&o.Pod.Spec) == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return qos.Class(&o.Pod.Spec) != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		return named(selector, &spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(spec.Affinity)
	}
	return false
}

// terminating says whether the Pod ends by itself at some time.
func terminating(spec *corev1.PodSpec) bool {
	return spec.ActiveDeadlineSeconds != nil && *spec.ActiveDeadlineSeconds >= 0
}

// named compares the name of a class, nil or empty for none, with a selector.
func named(selector corev1.ScopedResourceSelectorRequirement, name *string) bool {
	has := name != nil && *name != ""
	listed := has && slices.Contains(selector.Values, *name)
	switch selector.Operator {
	case corev1.ScopeSelectorOpExists:
		return has
	case corev1.ScopeSelectorOpDoesNotExist:
		return !has
	case corev1.ScopeSelectorOpIn:
		return listed
	case corev1.ScopeSelectorOpNotIn:
		return !listed
	}
	return false
}

func crossesNamespaces(affinity *corev1.Affinity) bool {
	if affinity == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	weighted := func(list []corev1.WeightedPodAffinityTerm) {
		for _, w := range list {
			terms = append(terms, w.PodAffinityTerm)
		}
	}
	if a := affinity.PodAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		terms = append(terms, a.RequiredDuringSchedulingIgnoredDuringExecution...)
		weighted(a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool {
		return len(t.Namespaces) > 0 || t.NamespaceSelector != nil
	})
}
