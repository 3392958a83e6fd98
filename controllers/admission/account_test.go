package admission

import (
	"context"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/accounts"
)

// noToken is the policy of Pods whose account mounts no token.
var noToken = podPolicy{
	account: func(context.Context, *keelsonv1.Pod) (*corev1.ServiceAccount, error) {
		return &corev1.ServiceAccount{AutomountServiceAccountToken: new(false)}, nil
	},
	volumeName: func() string { return "unused" },
}

func TestPodsOfAccounts(t *testing.T) {
	pods := func(account string) string {
		return strings.Replace(podJSON, `"spec":{`, `"spec":{"serviceAccountName":"`+account+`",`, 1)
	}
	stored := fake.NewClientBuilder().WithObjects(
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "robot"}},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "stranger"}},
		&corev1.ServiceAccount{
			ObjectMeta:       metav1.ObjectMeta{Namespace: "ns", Name: "strict", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}},
			ImagePullSecrets: []corev1.LocalObjectReference{{Name: "a"}},
		},
	).Build()
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
			policy := newPodPolicy(accounts.Finder{Cached: stored, Live: stored})
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
