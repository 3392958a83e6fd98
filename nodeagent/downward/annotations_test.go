package downward

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestAsksForAnnotations(t *testing.T) {
	field := func(path string) *corev1.ObjectFieldSelector { return &corev1.ObjectFieldSelector{FieldPath: path} }
	variable := func(path string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "PLAIN"}, {Name: "ASKS", ValueFrom: &corev1.EnvVarSource{FieldRef: field(path)}}}
	}
	files := func(path string) []corev1.DownwardAPIVolumeFile {
		return []corev1.DownwardAPIVolumeFile{{Path: "memory", ResourceFieldRef: &corev1.ResourceFieldSelector{}}, {Path: "a", FieldRef: field(path)}}
	}
	const all, one = "metadata.annotations", "metadata.annotations['a']"
	for name, tt := range map[string]struct {
		spec corev1.PodSpec
		want bool
	}{
		"nothing":                           {},
		"labels in a variable":              {spec: corev1.PodSpec{Containers: []corev1.Container{{Env: variable("metadata.labels['a']")}}}},
		"an annotation in a variable":       {spec: corev1.PodSpec{Containers: []corev1.Container{{}, {Env: variable(one)}}}, want: true},
		"a variable of an init container":   {spec: corev1.PodSpec{InitContainers: []corev1.Container{{Env: variable(one)}}}, want: true},
		"a variable of a debug container":   {spec: corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: variable(one)}}}}, want: true},
		"labels in a file":                  {spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: files("metadata.labels")}}}}}},
		"all annotations in a file":         {spec: corev1.PodSpec{Volumes: []corev1.Volume{{}, {VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: files(all)}}}}}, want: true},
		"annotations in a projected volume": {spec: corev1.PodSpec{Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{}, {DownwardAPI: &corev1.DownwardAPIProjection{Items: files(all)}}}}}}}}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := AsksForAnnotations(&tt.spec); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
