package podadmission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSecurity(t *testing.T) {
	security, err := NewSecurity()
	if err != nil {
		t.Fatal(err)
	}
	hostNetwork := &corev1.PodSpec{HostNetwork: true, Containers: []corev1.Container{{Name: "c"}}}
	plain := &corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}
	const enforce, warn = "pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/warn"
	for what, tc := range map[string]struct {
		labels   map[string]string
		spec     *corev1.PodSpec
		denied   string
		warnings []string
	}{
		"a Namespace that says nothing allows everything": {spec: hostNetwork},
		"baseline refuses the node's network": {labels: map[string]string{enforce: "baseline"}, spec: hostNetwork,
			denied:   `violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`,
			warnings: []string{`would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}},
		"baseline allows a plain Pod": {labels: map[string]string{enforce: "baseline"}, spec: plain},
		"a warning refuses nothing": {labels: map[string]string{warn: "baseline"}, spec: hostNetwork,
			warnings: []string{`would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)`}},
		"what cannot be read is taken for the strictest": {labels: map[string]string{enforce: "strict"}, spec: plain,
			denied: `violates PodSecurity "restricted:latest": `},
	} {
		t.Run(what, func(t *testing.T) {
			got := ""
			if err := security.Enforce(tc.labels, &metav1.ObjectMeta{}, tc.spec); err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, tc.denied) || (got == "") != (tc.denied == "") {
				t.Errorf("denied %q, want %q", got, tc.denied)
			}
			if diff := cmp.Diff(tc.warnings, security.Warnings(tc.labels, &metav1.ObjectMeta{}, tc.spec)); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecurityChanges(t *testing.T) {
	spec := func(image string, ephemeral ...string) *corev1.PodSpec {
		s := &corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}
		for _, name := range ephemeral {
			s.EphemeralContainers = append(s.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: name}})
		}
		return s
	}
	for what, tc := range map[string]struct {
		old, now *corev1.PodSpec
		want     bool
	}{
		"nothing":                   {spec("a"), spec("a"), false},
		"an image":                  {spec("a"), spec("b"), true},
		"a new ephemeral container": {spec("a"), spec("a", "debug"), true},
		"the same as before":        {spec("a", "debug"), spec("a", "debug"), false},
	} {
		if got := SecurityChanges(tc.now, tc.old); got != tc.want {
			t.Errorf("%s: %v, want %v", what, got, tc.want)
		}
	}
}
