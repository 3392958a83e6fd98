package nodeaccess

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func pod(name, node string, configMaps ...string) *keelsonv1.Pod {
	p := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	p.Spec.NodeName = node
	for _, c := range configMaps {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: c}},
		}})
	}
	return p
}

func withToken(p *keelsonv1.Pod, account, secret string) *keelsonv1.Pod {
	p.Spec.ServiceAccountName = account
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}},
			{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: secret}}},
		},
	}}})
	return p
}

func ends(p *keelsonv1.Pod) *keelsonv1.Pod {
	p.Status.Phase = corev1.PodSucceeded
	return p
}

func mirrors(p *keelsonv1.Pod) *keelsonv1.Pod {
	p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "hash"}
	return p
}

func withCertificate(p *keelsonv1.Pod, account string) *keelsonv1.Pod {
	p.Spec.ServiceAccountName = account
	p.Spec.Volumes = []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/s"}}},
	}}}}
	return p
}

func TestComputeAccess(t *testing.T) {
	read := []string{"get", "list", "watch"}
	tests := map[string]struct {
		pods []keelsonv1.Pod
		want []rbacv1.PolicyRule
	}{
		"no Pods":                {},
		"a Pod that has ended":   {pods: []keelsonv1.Pod{*ends(pod("p", "n", "a"))}},
		"a mirror":               {pods: []keelsonv1.Pod{*mirrors(pod("p", "n", "a"))}},
		"a Pod of no references": {pods: []keelsonv1.Pod{*pod("p", "n")}},
		"two Pods share a map": {pods: []keelsonv1.Pod{*pod("p", "n", "b", "a"), *pod("q", "n", "a")}, want: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{"a", "b"}, Verbs: read},
		}},
		"a Secret and a token": {pods: []keelsonv1.Pod{*withToken(pod("p", "n"), "robot", "key")}, want: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{"key"}, Verbs: read},
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{"robot"}, Verbs: []string{"create"}},
		}},
		"a certificate": {pods: []keelsonv1.Pod{*withCertificate(pod("p", "n"), "robot")}, want: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: []string{"robot"}, Verbs: []string{"get"}},
			{APIGroups: []string{"certificates.k8s.io"}, Resources: []string{"podcertificaterequests"}, Verbs: []string{"create"}},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := computeAccess(tt.pods)
			if diff := cmp.Diff(tt.want, got.rules()); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got, accessOf(got.rules()), cmp.AllowUnexported(access{})); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

type rig struct {
	t      *testing.T
	client client.Client
	clock  *clocktesting.FakePassiveClock
	*Reconciler
}

func newRig(t *testing.T, objects ...client.Object) rig {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithIndex(&keelsonv1.Pod{}, byNode, nodesOf).Build()
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	return rig{t: t, client: c, clock: clock, Reconciler: NewReconciler(c, c, events.NewFakeRecorder(10), Options{Linger: time.Minute, Clock: clock})}
}

func (r rig) reconcile(node string) ctrl.Result {
	r.t.Helper()
	result, err := r.Reconcile(r.t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: node}})
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// names are the ConfigMaps that a node's agent may read, nil when it has no Role.
func (r rig) names(node string) []string {
	r.t.Helper()
	role, binding := &rbacv1.Role{}, &rbacv1.RoleBinding{}
	name := types.NamespacedName{Namespace: "ns", Name: "keelson:node:" + node}
	roleErr, bindingErr := r.client.Get(r.t.Context(), name, role), r.client.Get(r.t.Context(), name, binding)
	if apierrors.IsNotFound(roleErr) != apierrors.IsNotFound(bindingErr) {
		r.t.Fatalf("role: %v, binding: %v", roleErr, bindingErr)
	}
	if roleErr != nil {
		return nil
	}
	want := []rbacv1.Subject{{APIGroup: "rbac.authorization.k8s.io", Kind: "User", Name: "keelson:node:" + node}}
	if diff := cmp.Diff(want, binding.Subjects); diff != "" || binding.RoleRef.Name != role.Name {
		r.t.Errorf("bound to %s (-want +got):\n%s", binding.RoleRef.Name, diff)
	}
	return role.Rules[0].ResourceNames
}

func TestRightsFollowPods(t *testing.T) {
	r := newRig(t, pod("p", "one", "a"), pod("q", "two", "b"), pod("unbound", "", "c"))
	r.reconcile("one")
	if diff := cmp.Diff([]string{"a"}, r.names("one")); diff != "" {
		t.Errorf("node one (-want +got):\n%s", diff)
	}
	if got := r.names("two"); got != nil {
		t.Errorf("node two reads %v before its turn", got)
	}
	if err := r.client.Create(t.Context(), pod("p2", "one", "x")); err != nil {
		t.Fatal(err)
	}
	r.reconcile("one")
	if diff := cmp.Diff([]string{"a", "x"}, r.names("one")); diff != "" {
		t.Errorf("node one (-want +got):\n%s", diff)
	}
}

func TestRightsOutliveTheirLastUseForAWhile(t *testing.T) {
	r := newRig(t, pod("p", "one", "a"), pod("q", "one", "b"))
	r.reconcile("one")
	if err := r.client.Delete(t.Context(), pod("p", "one")); err != nil {
		t.Fatal(err)
	}
	if result := r.reconcile("one"); result.RequeueAfter != time.Minute {
		t.Errorf("comes back after %v", result.RequeueAfter)
	}
	if diff := cmp.Diff([]string{"a", "b"}, r.names("one")); diff != "" {
		t.Errorf("at once (-want +got):\n%s", diff)
	}
	r.clock.SetTime(time.Unix(61, 0))
	r.reconcile("one")
	if diff := cmp.Diff([]string{"b"}, r.names("one")); diff != "" {
		t.Errorf("after a while (-want +got):\n%s", diff)
	}
	if err := r.client.Delete(t.Context(), pod("q", "one")); err != nil {
		t.Fatal(err)
	}
	r.reconcile("one")
	r.clock.SetTime(time.Unix(200, 0))
	r.reconcile("one")
	if got := r.names("one"); got != nil {
		t.Errorf("a node without Pods reads %v", got)
	}
}

func TestUseBeforeTheEndKeepsTheRight(t *testing.T) {
	r := newRig(t, pod("p", "one", "a"))
	r.reconcile("one")
	if err := r.client.Delete(t.Context(), pod("p", "one")); err != nil {
		t.Fatal(err)
	}
	r.reconcile("one")
	r.clock.SetTime(time.Unix(50, 0))
	if err := r.client.Create(t.Context(), pod("p2", "one", "a")); err != nil {
		t.Fatal(err)
	}
	r.reconcile("one")
	if err := r.client.Delete(t.Context(), pod("p2", "one")); err != nil {
		t.Fatal(err)
	}
	r.clock.SetTime(time.Unix(70, 0))
	if result := r.reconcile("one"); result.RequeueAfter != time.Minute {
		t.Errorf("the time began before the last use: comes back after %v", result.RequeueAfter)
	}
}

// TestCrashes begins with what a manager that was killed between two writes leaves, and
// with what somebody else made of it.
func TestCrashes(t *testing.T) {
	needed := access{configMaps: map[string]bool{"a": true}}
	foreign := renderBinding("ns", "one")
	foreign.Subjects = []rbacv1.Subject{{Kind: "User", Name: "mallory"}}
	wide := renderRole("ns", "one", needed)
	wide.Rules[0].ResourceNames = nil
	for name, left := range map[string][]client.Object{
		"a role without a binding":   {renderRole("ns", "one", needed)},
		"a binding without a role":   {renderBinding("ns", "one")},
		"a binding of somebody else": {renderRole("ns", "one", needed), foreign},
		"a role for all":             {wide, renderBinding("ns", "one")},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, append(left, pod("p", "one", "a"))...)
			r.reconcile("one")
			r.reconcile("one")
			if diff := cmp.Diff([]string{"a"}, r.names("one")); diff != "" {
				t.Errorf("rights (-want +got):\n%s", diff)
			}
		})
		t.Run(name+", and no Pods", func(t *testing.T) {
			r := newRig(t, left...)
			r.reconcile("one")
			r.clock.SetTime(time.Unix(100, 0))
			r.reconcile("one")
			if got := r.names("one"); got != nil {
				t.Errorf("reads %v", got)
			}
		})
	}
}
