package podrefs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func ref(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }

func TestOf(t *testing.T) {
	key := func(name string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: ref(name), Key: "k"}}
	}
	secretKey := func(name string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(name), Key: "k"}}
	}
	token := corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
	tests := map[string]struct {
		spec corev1.PodSpec
		want References
	}{
		"a Pod that names nothing": {spec: corev1.PodSpec{ServiceAccountName: "a"}},
		"volumes, each object once and sorted": {
			spec: corev1.PodSpec{Volumes: []corev1.Volume{
				{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("z")}}},
				{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("a")}}},
				{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: ref("z")}}},
				{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
			}},
			want: References{ConfigMaps: []string{"a", "z"}, Secrets: []string{"s"}},
		},
		"projections and the token's account": {
			spec: corev1.PodSpec{ServiceAccountName: "robot", Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					token,
					{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: ref("kube-root-ca.crt")}},
					{Secret: &corev1.SecretProjection{LocalObjectReference: ref("tls")}},
				}},
			}}}},
			want: References{ConfigMaps: []string{"kube-root-ca.crt"}, Secrets: []string{"tls"}, TokenAccount: "robot"},
		},
		"certificates and the account that they are about": {
			spec: corev1.PodSpec{ServiceAccountName: "robot", Volumes: []corev1.Volume{{VolumeSource: corev1.VolumeSource{
				Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.com/s"}}}},
			}}}},
			want: References{CertificateAccount: "robot"},
		},
		"variables of every kind of container": {
			spec: corev1.PodSpec{
				InitContainers: []corev1.Container{{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("init")}, {Name: "B", Value: "b"}}}},
				Containers: []corev1.Container{{
					Env:     []corev1.EnvVar{{Name: "A", ValueFrom: secretKey("main")}, {Name: "F", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{}}}},
					EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: ref("all")}}},
				}},
				EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
					EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("debug")}}},
				}}},
			},
			want: References{ConfigMaps: []string{"all", "init"}, Secrets: []string{"debug", "main"}},
		},
		"credentials of registries": {
			spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{ref("registry"), {}}},
			want: References{Secrets: []string{"registry"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Of(&tt.spec)); diff != "" {
				t.Errorf("references (-want +got):\n%s", diff)
			}
		})
	}
}
