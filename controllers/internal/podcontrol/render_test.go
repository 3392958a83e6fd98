package podcontrol

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

func TestRender(t *testing.T) {
	o, tmpl := owner(), template()
	tmpl.Labels["tier"] = "front"
	tmpl.Annotations = map[string]string{"note": "x"}
	tmpl.Finalizers = []string{"example.org/hold"}
	pod := Render(o, tmpl)
	want := metav1.ObjectMeta{
		Namespace: "default", GenerateName: "web-",
		Labels:      map[string]string{"app": "web", "tier": "front"},
		Annotations: map[string]string{"note": "x"},
		Finalizers:  []string{"example.org/hold"},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: o.Kind.GroupVersion().String(), Kind: o.Kind.Kind, Name: "web", UID: "rc-uid",
			Controller: new(true), BlockOwnerDeletion: new(true),
		}},
	}
	if diff := cmp.Diff(want, pod.ObjectMeta); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	pod.Labels["app"], pod.Spec.Containers[0].Image = "changed", "changed"
	if tmpl.Labels["app"] != "web" || tmpl.Spec.Containers[0].Image == "changed" {
		t.Error("the Pod shares memory with the template")
	}
	if !podstatus.IsActive(pod) {
		t.Error("a new Pod does not count")
	}
}

func TestGenerateName(t *testing.T) {
	for name, want := range map[string]string{"web": "web-", "a.b": "a.b-", "bad_name": "bad_name"} {
		if got := generateName(name); got != want {
			t.Errorf("generateName(%q) = %q, want %q", name, got, want)
		}
	}
}
