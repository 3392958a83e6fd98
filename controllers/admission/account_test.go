package admission

import (
	"context"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podchain"
)

// noToken is the policy of Pods that nobody adds anything to.
var noToken = podPolicy{admit: func(context.Context, *keelsonv1.Pod) error { return nil }}

// policyOver judges by what the client has.
func policyOver(t *testing.T, stored client.Client) podPolicy {
	t.Helper()
	chain, err := podchain.New(stored, stored, false)
	if err != nil {
		t.Fatal(err)
	}
	return podPolicy{admit: chain.Admit, readmit: chain.Recheck, warn: chain.Warnings}
}

func storeOf(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, clientgoscheme.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(kinds).WithObjects(objects...).Build()
}

func TestPodsOfAccounts(t *testing.T) {
	pods := func(account string) string {
		return strings.Replace(podJSON, `"spec":{`, `"spec":{"serviceAccountName":"`+account+`",`, 1)
	}
	stored := storeOf(t,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "stranger"}},
		&corev1.ServiceAccount{
			ObjectMeta:       metav1.ObjectMeta{Namespace: "ns", Name: "strict", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "a"}},
		},
	)
	tests := map[string]struct {
		account, want string
		code          int32
	}{
		"an account that is there": {account: "robot", code: http.StatusOK},
		"one of another Namespace": {account: "stranger", code: http.StatusForbidden,
			want: `pods "a" is forbidden: error looking up service account ns/stranger: serviceaccount "stranger" not found`},
		"the default one, which nobody has made": {account: "default", code: http.StatusForbidden,
			want: `pods "a" is forbidden: error looking up service account ns/default: serviceaccount "default" not found`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			policy := policyOver(t, stored)
			response := newHandler(&fakeOracle{}, newPolicy(t), policy).
				Handle(t.Context(), requestFor("Pod", admissionv1.Create, pods(tt.account), ""))
			code := int32(http.StatusOK)
			if !response.Allowed {
				code = response.Result.Code
			}
			if code != tt.code {
				t.Fatalf("code %d, want %d: %+v", code, tt.code, response.Result)
			}
			if !response.Allowed && response.Result.Message != tt.want {
				t.Errorf("message %q, want %q", response.Result.Message, tt.want)
			}
			if response.Allowed && !strings.Contains(response.String(), "kube-api-access-") {
				mounts := false
				for _, patch := range response.Patches {
					mounts = mounts || strings.Contains(patch.Json(), "kube-api-access-")
				}
				if !mounts {
					t.Errorf("no token is mounted: %v", response.Patches)
				}
			}
		})
	}
}

func TestPodsAreJudgedByTheirNamespace(t *testing.T) {
	stored := storeOf(t,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted",
		}}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "default"}, AutomountServiceAccountToken: new(false)},
		&keelsonv1.LimitRange{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "l"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
		}}}},
	)
	h := newHandler(&fakeOracle{}, newPolicy(t), policyOver(t, stored))
	onHost := strings.Replace(podJSON, `"spec":{`, `"spec":{"hostNetwork":true,`, 1)
	denied := h.Handle(t.Context(), requestFor("Pod", admissionv1.Create, onHost, ""))
	if denied.Allowed || denied.Result.Code != http.StatusForbidden ||
		!strings.HasPrefix(denied.Result.Message, `pods "a" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`) {
		t.Errorf("answer %+v", denied.Result)
	}
	allowed := h.Handle(t.Context(), requestFor("Pod", admissionv1.Create, podJSON, ""))
	if !allowed.Allowed || len(allowed.Warnings) != 1 || !strings.HasPrefix(allowed.Warnings[0], `would violate PodSecurity "restricted:latest": `) {
		t.Errorf("answer %+v, warnings %q", allowed.Result, allowed.Warnings)
	}
	for _, want := range []string{`"memory":"1Gi"`, "LimitRanger plugin set: memory limit for container"} {
		found := false
		for _, patch := range allowed.Patches {
			found = found || strings.Contains(patch.Json(), want)
		}
		if !found {
			t.Errorf("no patch with %s: %v", want, allowed.Patches)
		}
	}
	rc := strings.Replace(`{"apiVersion":"core.keelson.dev/v1","kind":"ReplicationController","metadata":{"name":"a"},"spec":{"replicas":1,"template":{"metadata":{"labels":{"a":"b"}},SPEC}}}`,
		"SPEC", `"spec":{"containers":[{"name":"c","image":"i"}]}`, 1)
	warned := h.Handle(t.Context(), requestFor("ReplicationController", admissionv1.Create, rc, ""))
	if !warned.Allowed || len(warned.Warnings) != 1 || !strings.HasPrefix(warned.Warnings[0], `would violate PodSecurity "restricted:latest": `) {
		t.Errorf("answer %+v, warnings %q", warned.Result, warned.Warnings)
	}
}
