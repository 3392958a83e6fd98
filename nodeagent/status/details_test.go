package status

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

func TestVolumeMountsOfTheStatus(t *testing.T) {
	enabled, ifPossible, disabled := corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyDisabled
	got := volumeMounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "a", MountPath: "/a"},
		{Name: "b", MountPath: "/b", ReadOnly: true},
		{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: &enabled},
		{Name: "d", MountPath: "/d", ReadOnly: true, RecursiveReadOnly: &ifPossible},
		{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: &disabled},
	}})
	want := []corev1.VolumeMountStatus{
		{Name: "a", MountPath: "/a"},
		{Name: "b", MountPath: "/b", ReadOnly: true, RecursiveReadOnly: &disabled},
		{Name: "c", MountPath: "/c", ReadOnly: true, RecursiveReadOnly: &enabled},
		{Name: "d", MountPath: "/d", ReadOnly: true, RecursiveReadOnly: &enabled},
		{Name: "e", MountPath: "/e", ReadOnly: true, RecursiveReadOnly: &disabled},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUserOfTheStatus(t *testing.T) {
	if got := userOf(&runtime.Container{}); got != nil {
		t.Errorf("of a container whose user is not known it says %+v", got)
	}
	got := userOf(&runtime.Container{User: &runtime.User{UID: 1, GID: 2, Groups: []int64{2, 3}}})
	want := &corev1.ContainerUser{Linux: &corev1.LinuxContainerUser{UID: 1, GID: 2, SupplementalGroups: []int64{2, 3}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
