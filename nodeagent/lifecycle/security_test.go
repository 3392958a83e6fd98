package lifecycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestComputeSecurity(t *testing.T) {
	unconfined := runtime.Seccomp{Type: runtime.SeccompUnconfined}
	localhost := func(path string) *corev1.SeccompProfile {
		return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &path}
	}
	const suffix = ` (pod: "web_default(uid-web)", container: main)`
	tests := map[string]struct {
		pod       *corev1.PodSecurityContext
		container *corev1.SecurityContext
		imageUser string
		want      runtime.Security
		wantErr   string
	}{
		"nothing is said": {want: runtime.Security{Seccomp: unconfined}},
		"the Pod's word counts": {
			pod:  &corev1.PodSecurityContext{RunAsUser: new(int64(1)), RunAsGroup: new(int64(2)), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			want: runtime.Security{RunAsUser: new(int64(1)), RunAsGroup: new(int64(2)), Seccomp: runtime.Seccomp{Type: runtime.SeccompRuntimeDefault}},
		},
		"the container's word counts more": {
			pod: &corev1.PodSecurityContext{RunAsUser: new(int64(1)), RunAsGroup: new(int64(2)), RunAsNonRoot: new(true), SeccompProfile: localhost("a.json")},
			container: &corev1.SecurityContext{RunAsUser: new(int64(0)), RunAsNonRoot: new(false),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}},
			want: runtime.Security{RunAsUser: new(int64(0)), RunAsGroup: new(int64(2)), Seccomp: unconfined},
		},
		"fsGroup is one of the groups": {
			pod: &corev1.PodSecurityContext{FSGroup: new(int64(5)), SupplementalGroups: []int64{7},
				SupplementalGroupsPolicy: new(corev1.SupplementalGroupsPolicyStrict)},
			want: runtime.Security{SupplementalGroups: []int64{5, 7}, StrictGroups: true, Seccomp: unconfined},
		},
		"rights": {
			container: &corev1.SecurityContext{Privileged: new(true), ReadOnlyRootFilesystem: new(true)},
			want:      runtime.Security{Privileged: true, ReadOnlyRootFilesystem: true, Seccomp: unconfined},
		},
		"no escalation": {
			container: &corev1.SecurityContext{AllowPrivilegeEscalation: new(false)},
			want:      runtime.Security{NoNewPrivileges: true, Seccomp: unconfined},
		},
		"a profile of the node": {
			pod:  &corev1.PodSecurityContext{SeccompProfile: localhost("team/a.json")},
			want: runtime.Security{Seccomp: runtime.Seccomp{Type: runtime.SeccompLocalhost, Path: "/root/seccomp/team/a.json"}},
		},
		"a profile outside the folder": {
			pod:     &corev1.PodSecurityContext{SeccompProfile: localhost("../../etc/passwd")},
			wantErr: `localhostProfile "../../etc/passwd" must be a path below the node's folder of profiles`,
		},
		"a profile without a name": {
			pod:     &corev1.PodSecurityContext{SeccompProfile: localhost("")},
			wantErr: "localhostProfile must be set if seccompProfile type is Localhost",
		},
		"non-root, and the image names a number": {
			pod: &corev1.PodSecurityContext{RunAsNonRoot: new(true)}, imageUser: "1001:0",
			want: runtime.Security{Seccomp: unconfined},
		},
		"non-root, and the Pod names a number": {
			pod:       &corev1.PodSecurityContext{RunAsNonRoot: new(true)},
			container: &corev1.SecurityContext{RunAsUser: new(int64(4))}, imageUser: "root",
			want: runtime.Security{RunAsUser: new(int64(4)), Seccomp: unconfined},
		},
		"non-root, and root is asked for": {
			pod:     &corev1.PodSecurityContext{RunAsNonRoot: new(true), RunAsUser: new(int64(0))},
			wantErr: "container's runAsUser breaks non-root policy" + suffix,
		},
		"non-root, and the image says nothing": {
			container: &corev1.SecurityContext{RunAsNonRoot: new(true)},
			wantErr:   "container has runAsNonRoot and image will run as root" + suffix,
		},
		"non-root, and the image says root by number": {
			container: &corev1.SecurityContext{RunAsNonRoot: new(true)}, imageUser: "0:5",
			wantErr: "container has runAsNonRoot and image will run as root" + suffix,
		},
		"non-root, and the image has a name": {
			container: &corev1.SecurityContext{RunAsNonRoot: new(true)}, imageUser: "app:app",
			wantErr: "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root" + suffix,
		},
		"non-root, and the image has an impossible number": {
			container: &corev1.SecurityContext{RunAsNonRoot: new(true)}, imageUser: "4294967296",
			wantErr: "container has runAsNonRoot and image has an invalid user id (4294967296). (Must be 1-(2147483647)): must be between 0 and 2147483647, inclusive" + suffix,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := makePod("web", "main")
			pod.Spec.SecurityContext, pod.Spec.Containers[0].SecurityContext = tt.pod, tt.container
			got, err := computeSecurity(pod, &pod.Spec.Containers[0], runtime.Image{User: tt.imageUser}, "/root")
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff(tt.wantErr, text); diff != "" {
				t.Fatalf("error (-want +got):\n%s", diff)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("security (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSysctlNamesMayHaveSlashes(t *testing.T) {
	pod := makePod("web", "main")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: "net/ipv4/tcp_syncookies", Value: "1"}}}
	if diff := cmp.Diff(map[string]string{"net.ipv4.tcp_syncookies": "1"}, sysctls(pod)); diff != "" {
		t.Errorf("sysctls (-want +got):\n%s", diff)
	}
}

func TestPrivilegedContainerOnANodeThatForbidsIt(t *testing.T) {
	onMachine(t, func(m *machine) {
		m.manager.ForbidPrivileged = true
		pod := makePod("web", "main")
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
		m.run(pod)
		waiting := m.container(pod, "main").State.Waiting
		want := "container main is privileged, which this node forbids (--allow-privileged=false)"
		if waiting == nil || waiting.Reason != "CreateContainerConfigError" || waiting.Message != want {
			t.Errorf("it waits for %+v", waiting)
		}
	})
}

func TestAppArmorProfile(t *testing.T) {
	profile := func(kind corev1.AppArmorProfileType, name *string) *corev1.AppArmorProfile {
		return &corev1.AppArmorProfile{Type: kind, LocalhostProfile: name}
	}
	const standard, local, none = corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeLocalhost, corev1.AppArmorProfileTypeUnconfined
	tests := map[string]struct {
		pod, own *corev1.AppArmorProfile
		want     runtime.AppArmor
		wantErr  string
	}{
		"none":                          {},
		"the Pod's":                     {pod: profile(standard, nil), want: runtime.AppArmor{Type: runtime.AppArmorRuntimeDefault}},
		"the container's word counts":   {pod: profile(standard, nil), own: profile(none, nil), want: runtime.AppArmor{Type: runtime.AppArmorUnconfined}},
		"one that is loaded on a node":  {own: profile(local, new("mine")), want: runtime.AppArmor{Type: runtime.AppArmorLocalhost, Profile: "mine"}},
		"one that is loaded, unnamed":   {own: profile(local, nil), wantErr: "localhostProfile must be set if appArmorProfile type is Localhost"},
		"one that is loaded, of spaces": {own: profile(local, new(" ")), wantErr: "localhostProfile must be set if appArmorProfile type is Localhost"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := makePod("p", "c")
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: tt.pod}
			pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: tt.own}
			got, err := computeSecurity(pod, &pod.Spec.Containers[0], runtime.Image{}, "/root-dir")
			message := ""
			if err != nil {
				message = err.Error()
			}
			if got.AppArmor != tt.want || message != tt.wantErr {
				t.Errorf("profile %+v, error %q; want %+v, %q", got.AppArmor, message, tt.want, tt.wantErr)
			}
		})
	}
}
