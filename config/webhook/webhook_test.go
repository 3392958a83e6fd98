package webhook

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func typed[T any](t *testing.T, object *unstructured.Unstructured) *T {
	t.Helper()
	registration := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, registration, true); err != nil {
		t.Fatalf("the registration has a wrong field: %v", err)
	}
	return registration
}

func TestURLReplacesTheService(t *testing.T) {
	for name, tc := range map[string]struct{ base, want string }{
		"a plain address":         {"https://localhost:9443", "https://localhost:9443"},
		"a slash at the end":      {"https://localhost:9443/", "https://localhost:9443"},
		"a prefix of the address": {"https://a.example/keelson", "https://a.example/keelson"},
	} {
		t.Run(name, func(t *testing.T) {
			objects, err := ForURL(tc.base)
			if err != nil {
				t.Fatal(err)
			}
			if len(objects) != 2 {
				t.Fatalf("%d registrations, want the mutating and the validating one", len(objects))
			}
			mutating := typed[admissionregistrationv1.MutatingWebhookConfiguration](t, objects[0])
			validating := typed[admissionregistrationv1.ValidatingWebhookConfiguration](t, objects[1])
			for path, got := range map[string]admissionregistrationv1.WebhookClientConfig{
				"/admit": mutating.Webhooks[0].ClientConfig, "/quota": validating.Webhooks[0].ClientConfig,
			} {
				if diff := cmp.Diff(admissionregistrationv1.WebhookClientConfig{URL: new(tc.want + path)}, got); diff != "" {
					t.Errorf("clientConfig (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestURLThatNoAPIServerCanUse(t *testing.T) {
	for _, base := range []string{"", "localhost:9443", "http://localhost:9443", "https://", "https://u:p@h", "https://h/?a=b", "https://h/#a", "https://a b"} {
		if _, err := ForURL(base); err == nil || !strings.Contains(err.Error(), "webhook URL") {
			t.Errorf("ForURL(%q) error = %v, want one that says what is wrong", base, err)
		}
	}
}

func TestManifestKnowsTheIdentities(t *testing.T) {
	objects, err := ForService()
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if object.GetKind() != "MutatingWebhookConfiguration" {
			continue
		}
		webhook := typed[admissionregistrationv1.MutatingWebhookConfiguration](t, object).Webhooks[0]
		var conditions string
		for _, c := range webhook.MatchConditions {
			conditions += c.Expression
		}
		for _, identity := range []string{keelsonv1.ManagerUser, keelsonv1.NodesGroup, "system:serviceaccount:" + keelsonv1.SystemNamespace + ":keelson-manager"} {
			if !strings.Contains(conditions, "'"+identity+"'") {
				t.Errorf("no match condition names %s: %s", identity, conditions)
			}
		}
		if diff := cmp.Diff([]string{keelsonv1.GroupName}, webhook.Rules[0].APIGroups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		return
	}
	t.Error("the manifest has no MutatingWebhookConfiguration")
}
