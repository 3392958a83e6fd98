package clusterroleaggregation

import (
	"cmp"
	"fmt"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// computeRules returns the rules that role should have: selector by selector, the rules
// of the selected roles in the order of their names, each rule once. The order is
// upstream's, so that both controllers agree that nothing is to be done.
func computeRules(role *rbacv1.ClusterRole, all []rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	rules := []rbacv1.PolicyRule{}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("clusterRoleSelectors[%d]: %w", i, err)
		}
		for j := range all {
			if all[j].Name != role.Name && selector.Matches(labels.Set(all[j].Labels)) {
				rules = appendMissing(rules, all[j].Rules)
			}
		}
	}
	return rules, nil
}

func appendMissing(rules, more []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	for i := range more {
		same := func(have rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(have, more[i]) }
		if !slices.ContainsFunc(rules, same) {
			rules = append(rules, *more[i].DeepCopy())
		}
	}
	return rules
}

// selects tells whether role takes over the rules of other. A selector that cannot be
// read selects nothing here; reconciling role says so.
func selects(role *rbacv1.ClusterRole, other client.Object) bool {
	if role.AggregationRule == nil || role.Name == other.GetName() {
		return false
	}
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err == nil && selector.Matches(labels.Set(other.GetLabels())) {
			return true
		}
	}
	return false
}
