package summary

import (
	upstreampolicyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

// PodDisruptionBudget returns the MIN AVAILABLE and MAX UNAVAILABLE columns.
func PodDisruptionBudget(spec *upstreampolicyv1.PodDisruptionBudgetSpec) policyv1.PodDisruptionBudgetSummary {
	return policyv1.PodDisruptionBudgetSummary{MinAvailable: orNotApplicable(spec.MinAvailable), MaxUnavailable: orNotApplicable(spec.MaxUnavailable)}
}

func orNotApplicable(value *intstr.IntOrString) string {
	if value == nil {
		return "N/A"
	}
	return value.String()
}
