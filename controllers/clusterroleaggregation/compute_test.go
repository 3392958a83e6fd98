package clusterroleaggregation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func role(name string, labels map[string]string, verbs ...string) rbacv1.ClusterRole {
	r := rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	for _, verb := range verbs {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{verb}})
	}
	return r
}

func combined(selectors ...map[string]string) *rbacv1.ClusterRole {
	r := role("combined", map[string]string{"a": "1"}, "own")
	r.AggregationRule = &rbacv1.AggregationRule{}
	for _, labels := range selectors {
		r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: labels})
	}
	return &r
}

func TestComputeRules(t *testing.T) {
	one, two := map[string]string{"a": "1"}, map[string]string{"b": "1"}
	tests := map[string]struct {
		role *rbacv1.ClusterRole
		all  []rbacv1.ClusterRole
		want []string
	}{
		"nothing selected leaves no rule":            {role: combined(one), all: []rbacv1.ClusterRole{role("x", two, "get")}},
		"no selector leaves no rule":                 {role: combined(), all: []rbacv1.ClusterRole{role("x", two, "get")}},
		"its own rules do not count":                 {role: combined(one), all: []rbacv1.ClusterRole{*combined(one), role("x", one, "get")}, want: []string{"get"}},
		"roles are taken in the order of names":      {role: combined(one), all: []rbacv1.ClusterRole{role("b", one, "list"), role("a", one, "get")}, want: []string{"get", "list"}},
		"each rule is taken once":                    {role: combined(one), all: []rbacv1.ClusterRole{role("b", one, "get", "list"), role("a", one, "get")}, want: []string{"get", "list"}},
		"selectors are taken in their order":         {role: combined(two, one), all: []rbacv1.ClusterRole{role("a", one, "get"), role("b", two, "list")}, want: []string{"list", "get"}},
		"an empty selector selects all of the roles": {role: combined(map[string]string{}), all: []rbacv1.ClusterRole{role("a", one, "get"), role("b", two, "list")}, want: []string{"get", "list"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			rules, err := computeRules(tc.role, tc.all)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rule := range rules {
				got = append(got, rule.Verbs...)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("verbs (-want +got):\n%s", diff)
			}
			if rules == nil {
				t.Error("nil rules would not be written")
			}
		})
	}
}

func TestComputeRulesNamesABadSelector(t *testing.T) {
	bad := combined(map[string]string{"a": "1"})
	bad.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Near"}}
	if _, err := computeRules(bad, nil); err == nil {
		t.Error("accepted")
	}
}

func TestSelects(t *testing.T) {
	other := role("x", map[string]string{"a": "1"})
	self := combined(map[string]string{"a": "1"})
	if !selects(self, &other) || selects(combined(map[string]string{"b": "1"}), &other) || selects(self, self) || selects(&other, self) {
		t.Error("selects what it should not, or the other way round")
	}
}
