package admissionhooks

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// narrowObject takes out of a configuration, in place, what this package has nothing to do
// with, so that a plug-in can work with the rest as it is. Other objects stay whole.
func narrowObject(all []known, object any) {
	switch object := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		object.Webhooks = narrowHooks(all, object.Webhooks, func(h *admissionregistrationv1.MutatingWebhook) *[]admissionregistrationv1.RuleWithOperations {
			return &h.Rules
		})
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		object.Webhooks = narrowHooks(all, object.Webhooks, func(h *admissionregistrationv1.ValidatingWebhook) *[]admissionregistrationv1.RuleWithOperations {
			return &h.Rules
		})
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		if !narrowConstraints(all, object.Spec.MatchConstraints) {
			object.Spec = admissionregistrationv1.MutatingAdmissionPolicySpec{MatchConstraints: nothing(), FailurePolicy: object.Spec.FailurePolicy}
		}
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		if !narrowConstraints(all, object.Spec.MatchConstraints) {
			object.Spec = admissionregistrationv1.ValidatingAdmissionPolicySpec{MatchConstraints: nothing(), FailurePolicy: object.Spec.FailurePolicy}
		}
	}
}

// narrowHooks keeps the webhooks that have a rule left.
func narrowHooks[H any](all []known, hooks []H, in func(*H) *[]admissionregistrationv1.RuleWithOperations) []H {
	var kept []H
	for i := range hooks {
		rules := in(&hooks[i])
		left, points := ruleSet(*rules).narrow(all)
		if len(points) == 0 {
			continue
		}
		*rules = nil
		for _, some := range left {
			*rules = append(*rules, some...)
		}
		kept = append(kept, hooks[i])
	}
	return kept
}

// narrowConstraints narrows the rules of a policy; each keeps its names of objects. It
// says whether any are left.
func narrowConstraints(all []known, constraints *admissionregistrationv1.MatchResources) bool {
	if constraints == nil {
		return false
	}
	left, covered := rulesOf(constraints).narrow(all)
	var kept []admissionregistrationv1.NamedRuleWithOperations
	for i, some := range left {
		for _, rule := range some {
			kept = append(kept, admissionregistrationv1.NamedRuleWithOperations{
				ResourceNames: constraints.ResourceRules[i].ResourceNames, RuleWithOperations: rule,
			})
		}
	}
	constraints.ResourceRules = kept
	return len(covered) > 0
}

// nothing matches no request. A policy without rules would match all of them.
func nothing() *admissionregistrationv1.MatchResources {
	return &admissionregistrationv1.MatchResources{
		NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
			Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
			Rule:       admissionregistrationv1.Rule{APIGroups: []string{"nothing.keelson.dev"}, APIVersions: []string{"*"}, Resources: []string{"*"}},
		}}},
	}
}

// pointsOf lists the points that a configuration covers.
func pointsOf(all []known, object any) []Point {
	switch object := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		var points []Point
		for i := range object.Webhooks {
			_, some := ruleSet(object.Webhooks[i].Rules).narrow(all)
			points = append(points, some...)
		}
		return points
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		var points []Point
		for i := range object.Webhooks {
			_, some := ruleSet(object.Webhooks[i].Rules).narrow(all)
			points = append(points, some...)
		}
		return points
	case *admissionregistrationv1.MutatingAdmissionPolicy:
		return pointsOfPolicy(all, object.Spec.MatchConstraints)
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		return pointsOfPolicy(all, object.Spec.MatchConstraints)
	}
	return nil
}

func pointsOfPolicy(all []known, constraints *admissionregistrationv1.MatchResources) []Point {
	_, points := rulesOf(constraints).narrow(all)
	return points
}

// rulesOf are the rules of a policy without the names of objects.
func rulesOf(constraints *admissionregistrationv1.MatchResources) ruleSet {
	if constraints == nil {
		return nil
	}
	rules := make(ruleSet, len(constraints.ResourceRules))
	for i, rule := range constraints.ResourceRules {
		rules[i] = rule.RuleWithOperations
	}
	return rules
}
