package gatewayserving

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// administrator is a client of the gateway that may do everything.
func (f *front) administrator() *kubernetes.Clientset {
	f.t.Helper()
	f.account("administrator")
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Name: "administrator", Namespace: f.namespace}},
	}
	if _, err := f.admin.RbacV1().ClusterRoleBindings().Create(f.t.Context(), binding, metav1.CreateOptions{}); err != nil {
		f.t.Fatal(err)
	}
	return f.client(f.token(f.namespace, "administrator"), rest.ImpersonationConfig{})
}

// runs makes a Node, and a Pod on it that runs as an account.
func (f *front) runs(account string) (*keelsonv1.Pod, *keelsonv1.Node) {
	f.t.Helper()
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}}
	if err := testEnv.Client.Create(f.t.Context(), node); err != nil {
		f.t.Fatal(err)
	}
	made := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: f.namespace}, Spec: pod("p").Spec}
	made.Spec.ServiceAccountName, made.Spec.NodeName = account, node.Name
	if err := testEnv.Client.Create(f.t.Context(), made); err != nil {
		f.t.Fatal(err)
	}
	return made, node
}

func boundTo(kind, name string, uid types.UID) *authenticationv1.TokenRequest {
	return &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: kind, Name: name, UID: uid},
	}}
}

func TestTokensSayWhatTheyAreBoundTo(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	root := f.administrator()
	f.account("app")
	p, n := f.runs("app")
	ofPod := map[string]authenticationv1.ExtraValue{
		"authentication.kubernetes.io/pod-name": {"p"}, "authentication.kubernetes.io/pod-uid": {string(p.UID)},
		"authentication.kubernetes.io/node-name": {n.Name}, "authentication.kubernetes.io/node-uid": {string(n.UID)},
	}
	for name, tc := range map[string]struct {
		asked *authenticationv1.TokenRequest
		want  map[string]authenticationv1.ExtraValue
	}{
		"a Pod":             {boundTo("Pod", "p", ""), ofPod},
		"a Pod, by its UID": {boundTo("Pod", "p", p.UID), ofPod},
		"a Node": {boundTo("Node", n.Name, n.UID), map[string]authenticationv1.ExtraValue{
			"authentication.kubernetes.io/node-name": {n.Name}, "authentication.kubernetes.io/node-uid": {string(n.UID)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := root.CoreV1().ServiceAccounts(f.namespace).CreateToken(ctx, "app", tc.asked, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.asked.Spec.BoundObjectRef, got.Spec.BoundObjectRef); diff != "" || len(got.Spec.Audiences) != 1 {
				t.Errorf("the answer is bound (-want +got):\n%s, for %v", diff, got.Spec.Audiences)
			}
			review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: got.Status.Token}}
			if review, err = root.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{}); err != nil || !review.Status.Authenticated {
				t.Fatalf("review %+v, %v", review, err)
			}
			self, err := f.client(got.Status.Token, rest.ImpersonationConfig{}).AuthenticationV1().SelfSubjectReviews().
				Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for who, user := range map[string]authenticationv1.UserInfo{"a TokenReview": review.Status.User, "the API server": self.Status.UserInfo} {
				if credential := user.Extra["authentication.kubernetes.io/credential-id"]; len(credential) != 1 {
					t.Errorf("%s knows the credential %v", who, credential)
				}
				delete(user.Extra, "authentication.kubernetes.io/credential-id")
				if diff := cmp.Diff(tc.want, user.Extra); diff != "" {
					t.Errorf("what %s knows of the user (-want +got):\n%s", who, diff)
				}
			}
		})
	}
}

func TestTokensAreBoundToWhatIsThere(t *testing.T) {
	f := start(t)
	root := f.administrator()
	f.account("app", rule("", "pods", "get"))
	f.account("other")
	f.runs("app")
	for name, tc := range map[string]struct {
		by      *kubernetes.Clientset
		account string
		asked   *authenticationv1.TokenRequest
		code    int32
		want    string
	}{
		"a Pod that is not there":    {root, "app", boundTo("Pod", "q", ""), 404, `pods "q" not found`},
		"a Node that is not there":   {root, "app", boundTo("Node", "q", ""), 404, `nodes "q" not found`},
		"a Pod that has gone":        {root, "app", boundTo("Pod", "p", "gone"), 409, "the UID in the bound object reference (gone) does not match the UID in record. The object might have been deleted and then recreated"},
		"a Pod of another account":   {root, "other", boundTo("Pod", "p", ""), 400, `cannot bind token for serviceaccount "other" to pod running with different serviceaccount name.`},
		"an account that is missing": {root, "missing", boundTo("Pod", "p", ""), 404, `serviceaccounts "missing" not found`},
		"a kind that nothing can be bound to": {
			root, "app", boundTo("ConfigMap", "c", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap",
		},
		"by somebody who may not ask": {
			f.client(f.token(f.namespace, "app"), rest.ImpersonationConfig{}), "app", boundTo("Pod", "q", ""), 403, `cannot create resource "serviceaccounts/token"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.by.CoreV1().ServiceAccounts(f.namespace).CreateToken(t.Context(), tc.account, tc.asked, metav1.CreateOptions{})
			status, ok := err.(apierrors.APIStatus)
			if !ok || status.Status().Code != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %d with %s", err, tc.code, tc.want)
			}
		})
	}
}

func TestTokensEndWithTheirPod(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	root := f.administrator()
	f.account("app")
	p, _ := f.runs("app")
	token := func() string {
		got, err := root.CoreV1().ServiceAccounts(f.namespace).CreateToken(ctx, "app", boundTo("Pod", "p", ""), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Status.Token
	}
	refused := func(token, want string) {
		t.Helper()
		review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
		review, err := root.AuthenticationV1().TokenReviews().Create(ctx, review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(authenticationv1.TokenReviewStatus{Error: "[invalid bearer token, " + want + "]"}, review.Status); diff != "" {
			t.Errorf("the review says (-want +got):\n%s", diff)
		}
		self := f.client(token, rest.ImpersonationConfig{}).AuthenticationV1().SelfSubjectReviews()
		if _, err := self.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("a request with the token: %v, want 401", err)
		}
	}
	first := token()
	remove(t, p)
	refused(first, "service account token has been invalidated")

	again := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: f.namespace}, Spec: p.Spec}
	if err := testEnv.Client.Create(ctx, again); err != nil {
		t.Fatal(err)
	}
	refused(first, "pod UID ("+string(again.UID)+") does not match service account pod ref claim ("+string(p.UID)+")")
	second := token()
	self := f.client(second, rest.ImpersonationConfig{}).AuthenticationV1().SelfSubjectReviews()
	if _, err := self.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); err != nil {
		t.Errorf("a request with the token of the new Pod: %v", err)
	}
}

// remove deletes a Pod that no agent runs.
func remove(t *testing.T, p *keelsonv1.Pod) {
	t.Helper()
	bare := p.DeepCopy()
	bare.Finalizers = nil
	if err := testEnv.Client.Patch(t.Context(), bare, client.MergeFrom(p)); err != nil {
		t.Fatal(err)
	}
	if err := testEnv.Client.Delete(t.Context(), bare); err != nil {
		t.Fatal(err)
	}
}
