// Package servicemirror tests with a real API server that Services which it is told to
// call get a built-in Service of their name.
package servicemirror

import (
	"os"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/servicemirror"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func TestMirrorFollowsItsReferences(t *testing.T) {
	testEnv.StartManager(t, servicemirror.Add, func(o *ctrl.Options) { o.Cache.ByObject = servicemirror.CacheOptions() })
	namespace := testEnv.Namespace(t)
	service := &keelsonv1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "hook"},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.254.0.9", Ports: []corev1.ServicePort{{Port: 443}}},
	}
	if err := testEnv.Client.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	leadsTo := func(want string) {
		t.Helper()
		env.Eventually(t, func() string {
			mirror := &corev1.Service{}
			err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(service), mirror)
			if client.IgnoreNotFound(err) != nil {
				return err.Error()
			}
			if apierrors.IsNotFound(err) && want == "" || mirror.Spec.ExternalName == want && want != "" {
				return ""
			}
			return "the mirror leads to " + mirror.Spec.ExternalName + ", want " + want
		})
	}
	leadsTo("")
	registration := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "a.example.org", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionregistrationv1.SideEffectClassNone),
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"no": "namespace"}},
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "hook"}},
		}},
	}
	if err := testEnv.Client.Create(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
	leadsTo("10.254.0.9")
	service.Spec.ClusterIP = "10.254.0.10"
	if err := testEnv.Client.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	leadsTo("10.254.0.10")
	// What names a Service is often replaced: the mirror stays for the next one.
	if err := testEnv.Client.Delete(t.Context(), registration); err != nil {
		t.Fatal(err)
	}
	service.Spec.ClusterIP = "10.254.0.11"
	if err := testEnv.Client.Update(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	leadsTo("10.254.0.11")
	if err := testEnv.Client.Delete(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	leadsTo("")
}
