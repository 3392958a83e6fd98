package admission

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// checkResourceQuotaUpdate fixes the scopes, as upstream does.
func checkResourceQuotaUpdate(spec, old *corev1.ResourceQuotaSpec) field.ErrorList {
	sorted := func(scopes []corev1.ResourceQuotaScope) []corev1.ResourceQuotaScope {
		return slices.Sorted(slices.Values(scopes))
	}
	return fixed(slices.Equal(sorted(spec.Scopes), sorted(old.Scopes)), specPath.Child("scopes"), spec.Scopes)
}
