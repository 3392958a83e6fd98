package config_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/config"
)

// dnsObject decodes the only object of a kind.
func dnsObject(t *testing.T, kind string, into any) {
	t.Helper()
	objects, err := config.Objects(config.DNS)
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() == kind {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, into, true); err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			return
		}
	}
	t.Fatalf("config/dns has no %s", kind)
}

func TestDNSMeetsTheRestrictedStandard(t *testing.T) {
	var deployment appsv1.Deployment
	dnsObject(t, "Deployment", &deployment)
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	template := deployment.Spec.Template
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, &template.ObjectMeta, &template.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
}

func TestDNSMayListAndWatchAlone(t *testing.T) {
	var role rbacv1.ClusterRole
	dnsObject(t, "ClusterRole", &role)
	for _, rule := range role.Rules {
		if diff := cmp.Diff([]string{"list", "watch"}, rule.Verbs); diff != "" || slices.Contains(rule.Resources, "*") || slices.Contains(rule.APIGroups, "*") {
			t.Errorf("rule %v %v (-want +got):\n%s", rule.APIGroups, rule.Resources, diff)
		}
	}
}

// The ports of the Service lead to ports that the container names.
func TestTheServiceOfDNSLeadsToItsPods(t *testing.T) {
	var deployment appsv1.Deployment
	var service keelsonv1.Service
	dnsObject(t, "Deployment", &deployment)
	dnsObject(t, "Service", &service)
	if diff := cmp.Diff(service.Spec.Selector, deployment.Spec.Template.Labels); diff != "" {
		t.Errorf("selector and labels differ:\n%s", diff)
	}
	for _, port := range service.Spec.Ports {
		if !slices.ContainsFunc(deployment.Spec.Template.Spec.Containers[0].Ports, func(p corev1.ContainerPort) bool {
			return p.Name == port.TargetPort.StrVal && p.Protocol == port.Protocol
		}) {
			t.Errorf("port %s leads to %s, which no container has", port.Name, port.TargetPort.String())
		}
	}
}
