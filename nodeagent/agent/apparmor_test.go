package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestAppArmorProfilesAreRefusedWhereNobodyEnforcesThem(t *testing.T) {
	const yes, no, local = corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined, corev1.AppArmorProfileTypeLocalhost
	profile := func(kind corev1.AppArmorProfileType) *corev1.AppArmorProfile {
		if kind == "" {
			return nil
		}
		return &corev1.AppArmorProfile{Type: kind, LocalhostProfile: new("mine")}
	}
	refused := &refusal{"AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"}
	tests := map[string]struct {
		pod, container, init corev1.AppArmorProfileType
		enabled              bool
		want                 *refusal
	}{
		"no profile":                     {},
		"unconfined":                     {pod: no, container: no, init: no},
		"the default for the Pod":        {pod: yes, want: refused},
		"one's own for a container":      {container: local, want: refused},
		"the default for an init one":    {init: yes, want: refused},
		"where AppArmor is, all of them": {pod: yes, container: local, init: yes, enabled: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := podAsking("p", "", "")
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: profile(tt.pod)}
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: profile(tt.container)}
			pod.Spec.InitContainers = []corev1.Container{{SecurityContext: &corev1.SecurityContext{AppArmorProfile: profile(tt.init)}}}
			if diff := cmp.Diff(tt.want, checkAppArmor(pod, tt.enabled)); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppArmorEnabled(t *testing.T) {
	for text, want := range map[string]bool{"Y\n": true, "N\n": false, "": false} {
		file := filepath.Join(t.TempDir(), "enabled")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := appArmorEnabled(file); got != want || err != nil {
			t.Errorf("%q: enabled %v, error %v", text, got, err)
		}
	}
	if got, err := appArmorEnabled(filepath.Join(t.TempDir(), "missing")); got || err != nil {
		t.Errorf("without a file: enabled %v, error %v", got, err)
	}
	if _, err := appArmorEnabled(t.TempDir()); err == nil {
		t.Error("a folder is no switch")
	}
}
