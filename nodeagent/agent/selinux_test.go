package agent

import (
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestSELinuxOptionsAreRefusedWhereTheyWouldMeanSomething(t *testing.T) {
	labels := &corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}}
	tests := map[string]struct {
		context *corev1.PodSecurityContext
		enabled bool
		want    *refusal
	}{
		"labels, and SELinux":    {labels, true, &refusal{"PodFeatureUnsupported", "spec.securityContext.seLinuxOptions: this node has SELinux and sets no labels"}},
		"labels without SELinux": {labels, false, nil},
		"SELinux, no labels":     {&corev1.PodSecurityContext{}, true, nil},
		"SELinux and no context": {nil, true, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			pod := podAsking("p", "", "")
			pod.Spec.SecurityContext = tc.context
			if diff := cmp.Diff(tc.want, checkSELinux(pod, tc.enabled)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSELinuxOptionsOfContainers(t *testing.T) {
	pod := podAsking("p", "", "")
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Level: "s0"}}
	if got := checkSELinux(pod, false); got != nil {
		t.Errorf("without SELinux: %+v", got)
	}
	want := &refusal{"PodFeatureUnsupported", "spec.containers[0].securityContext.seLinuxOptions: this node has SELinux and sets no labels"}
	if diff := cmp.Diff(want, checkSELinux(pod, true)); diff != "" {
		t.Errorf("refusal (-want +got):\n%s", diff)
	}
}

func TestSELinuxIsNotFoundInOtherFolders(t *testing.T) {
	for _, folder := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if enabled, err := seLinuxEnabled(folder); enabled || err != nil {
			t.Errorf("%s: enabled %v, error %v", folder, enabled, err)
		}
	}
}
