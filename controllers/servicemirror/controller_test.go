package servicemirror

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/yaml"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func decode(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	obj := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &obj.Object); err != nil {
		t.Fatal(err)
	}
	return obj
}

const webhook = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w, annotations: {large: text}}
webhooks:
- {name: a.example.org, clientConfig: {service: {namespace: ns, name: hook, path: /a, port: 8443}}}
- {name: b.example.org, clientConfig: {url: "https://127.0.0.1"}}`

func TestReferences(t *testing.T) {
	for what, tc := range map[string]struct {
		manifest string
		want     []types.NamespacedName
	}{
		"a webhook with a Service and one with a URL": {webhook, []types.NamespacedName{{Namespace: "ns", Name: "hook"}}},
		"a conversion webhook": {`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec: {group: example.org, versions: [{name: v1}], conversion: {strategy: Webhook, webhook: {clientConfig: {service: {namespace: ns, name: convert}}}}}`,
			[]types.NamespacedName{{Namespace: "ns", Name: "convert"}}},
		"no conversion": {`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.org}
spec: {group: example.org, conversion: {strategy: None}}`, nil},
		"an aggregated API": {`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.org}
spec: {group: example.org, version: v1, service: {namespace: ns, name: api, port: 7443}}`, []types.NamespacedName{{Namespace: "ns", Name: "api"}}},
		"the API server's own": {`
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.}
spec: {version: v1}`, nil},
	} {
		t.Run(what, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, references(decode(t, tc.manifest))); diff != "" {
				t.Errorf("references (-want +got):\n%s", diff)
			}
			stripped, err := stripReferrer(decode(t, tc.manifest))
			if err != nil {
				t.Fatal(err)
			}
			obj := stripped.(*unstructured.Unstructured)
			if diff := cmp.Diff(tc.want, references(obj)); diff != "" {
				t.Errorf("references of what the cache keeps (-want +got):\n%s", diff)
			}
			if versions, found, _ := unstructured.NestedSlice(obj.Object, "spec", "versions"); found || obj.GetAnnotations() != nil {
				t.Errorf("the cache keeps %v, %v", versions, obj.GetAnnotations())
			}
		})
	}
}

func service(address string) *keelsonv1.Service {
	return &keelsonv1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hook", UID: "uid"},
		Spec:       corev1.ServiceSpec{ClusterIP: address},
	}
}

func mirror(address string) *corev1.Service { return renderMirror(service(address)) }

func TestMirrorFollows(t *testing.T) {
	foreign := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "hook"}, Spec: corev1.ServiceSpec{ExternalName: "theirs.example.org"}}
	for what, tc := range map[string]struct {
		service  *keelsonv1.Service
		have     *corev1.Service
		webhook  bool
		wantName string
	}{
		"a named Service is mirrored":                       {service: service("10.254.0.7"), webhook: true, wantName: "10.254.0.7"},
		"one that nobody names is not":                      {service: service("10.254.0.7")},
		"one without an address is not yet":                 {service: service(""), webhook: true},
		"a headless one is not":                             {service: service("None"), webhook: true},
		"one that is not there is not":                      {webhook: true},
		"a new address is followed":                         {service: service("10.254.0.8"), have: mirror("10.254.0.7"), webhook: true, wantName: "10.254.0.8"},
		"a mirror that nobody names any more stays":         {service: service("10.254.0.7"), have: mirror("10.254.0.7"), wantName: "10.254.0.7"},
		"the mirror of a Service that is gone goes":         {have: mirror("10.254.0.7"), webhook: true},
		"a built-in Service of somebody else is left alone": {service: service("10.254.0.7"), have: foreign, webhook: true, wantName: "theirs.example.org"},
	} {
		t.Run(what, func(t *testing.T) {
			c := newClient(t, tc.service, tc.have, tc.webhook)
			key := types.NamespacedName{Namespace: "ns", Name: "hook"}
			for range 2 { // the second time nothing changes
				if _, err := (&Reconciler{client: labelled{c}, named: c}).Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
					t.Fatal(err)
				}
			}
			got := &corev1.Service{}
			if err := c.Get(t.Context(), key, got); client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
			if got.Spec.ExternalName != tc.wantName {
				t.Errorf("leads to %q, want %q", got.Spec.ExternalName, tc.wantName)
			}
		})
	}
}

func newClient(t *testing.T, s *keelsonv1.Service, have *corev1.Service, named bool) client.Client {
	t.Helper()
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, scheme.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	b := fake.NewClientBuilder().WithScheme(kinds)
	if s != nil {
		b = b.WithObjects(s)
	}
	if have != nil {
		b = b.WithObjects(have)
	}
	if named {
		b = b.WithObjects(decode(t, webhook))
	}
	for _, kind := range referrers() {
		b = b.WithIndex(object(kind), index, func(obj client.Object) []string {
			var names []string
			for _, name := range references(obj) {
				names = append(names, name.String())
			}
			return names
		})
	}
	return b.Build()
}

// labelled shows only the built-in Services that the manager's cache has.
type labelled struct{ client.Client }

func (l labelled) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if err := l.Client.Get(ctx, key, obj, opts...); err != nil {
		return err
	}
	if s, ok := obj.(*corev1.Service); ok && s.Labels[MirrorLabel] == "" {
		*s = corev1.Service{}
		return apierrors.NewNotFound(corev1.Resource("services"), key.Name)
	}
	return nil
}
