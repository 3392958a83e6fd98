package admissionhooks

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"github.com/keelson-dev/keelson/gateway/table"
)

func rule(groups, resources string, operations ...admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{Operations: operations, Rule: admissionregistrationv1.Rule{
		APIGroups: []string{groups}, APIVersions: []string{"*"}, Resources: []string{resources},
	}}
}

func TestPointsOfRules(t *testing.T) {
	const create, update, remove, connect, all = admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete,
		admissionregistrationv1.Connect, admissionregistrationv1.OperationAll
	tests := map[string]struct {
		rules ruleSet
		side  Side
		want  []string
	}{
		"a resource by its plain name":                         {rules: ruleSet{rule("apps", "deployments", create)}, want: []string{"CREATE deployments.apps"}},
		"a resource that Keelson does not have":                {rules: ruleSet{rule("", "configmaps", create)}},
		"the stored name is the API server's":                  {rules: ruleSet{rule("apps.keelson.dev", "deployments", create)}},
		"every group is the API server's":                      {rules: ruleSet{rule("*", "deployments", create)}},
		"what another rule of the hook makes it call for":      {rules: ruleSet{rule("apps", "deployments", create, remove), rule("*", "*", create)}, want: []string{"DELETE deployments.apps"}},
		"a star is no subresource":                             {rules: ruleSet{rule("apps", "*", update), rule("*", "*", update)}},
		"subresources by a star":                               {rules: ruleSet{rule("apps", "statefulsets/*", all)}, want: []string{"CREATE statefulsets.apps", "DELETE statefulsets.apps", "UPDATE statefulsets.apps", "UPDATE statefulsets.apps/scale", "UPDATE statefulsets.apps/status"}},
		"a connection is not for the API server":               {rules: ruleSet{rule("", "pods/attach", connect)}},
		"a connection is for the gateway":                      {side: InGateway, rules: ruleSet{rule("", "pods/attach", connect)}, want: []string{"CONNECT pods/attach"}},
		"a connection by a star, which nobody else sees":       {side: InGateway, rules: ruleSet{rule("*", "pods/exec", all)}, want: []string{"CONNECT pods/exec"}},
		"a write is not for the gateway":                       {side: InGateway, rules: ruleSet{rule("", "pods", all)}},
		"an old version is no version of a row without others": {rules: ruleSet{{Operations: []admissionregistrationv1.OperationType{create}, Rule: admissionregistrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1beta1"}, Resources: []string{"deployments"}}}}},
		"an old version that is served": {rules: ruleSet{{Operations: []admissionregistrationv1.OperationType{create}, Rule: admissionregistrationv1.Rule{
			APIGroups: []string{"autoscaling"}, APIVersions: []string{"v1"}, Resources: []string{"horizontalpodautoscalers"}}}}, want: []string{"CREATE horizontalpodautoscalers.autoscaling"}},
		"the wrong scope": {rules: ruleSet{{Operations: []admissionregistrationv1.OperationType{create}, Rule: admissionregistrationv1.Rule{
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"nodes"}, Scope: new(admissionregistrationv1.NamespacedScope)}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			left, points := tt.rules.narrow(knownPoints(table.Keelson().Rows(), tt.side))
			var got []string
			for _, point := range points {
				got = append(got, string(point.Operation)+" "+pattern(point.Resource.String(), point.Subresource))
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("points (-want +got):\n%s", diff)
			}
			// What is left covers the same: a configuration is looked at more than once.
			_, again := slices.Concat(left...).narrow(knownPoints(table.Keelson().Rows(), tt.side))
			if diff := cmp.Diff(len(points), len(again)); diff != "" {
				t.Errorf("points of what is left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRegistrationRules(t *testing.T) {
	points := map[Point]bool{
		{admissionregistrationv1.Create, pods, ""}:                    true,
		{admissionregistrationv1.Update, pods, "status"}:              true,
		{admissionregistrationv1.Update, pods, "ephemeralcontainers"}: true,
		{admissionregistrationv1.Create, pods, "binding"}:             true,
	}
	var got []string
	for _, r := range RegistrationRules(table.Keelson(), points) {
		for _, resource := range r.Resources {
			got = append(got, string(r.Operations[0])+" "+r.APIGroups[0]+" "+resource)
		}
	}
	want := []string{"CREATE core.keelson.dev pods", "UPDATE core.keelson.dev pods", "UPDATE core.keelson.dev pods/status"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}
