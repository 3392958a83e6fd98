package podadmission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestAccount(t *testing.T) {
	mount := corev1.VolumeMount{Name: "kube-api-access-x", ReadOnly: true, MountPath: TokenMountPath}
	own := corev1.VolumeMount{Name: "mine", MountPath: TokenMountPath}
	tokens := []corev1.Volume{{Name: "kube-api-access-x", VolumeSource: corev1.VolumeSource{Projected: tokenVolume()}}}
	two := func(mounts ...corev1.VolumeMount) []corev1.Container {
		return []corev1.Container{{Name: "a", VolumeMounts: mounts}, {Name: "b"}}
	}
	tests := map[string]struct {
		spec    corev1.PodSpec
		account corev1.ServiceAccount
		mirror  bool
		want    corev1.PodSpec
	}{
		"every container mounts a token, init containers too": {
			spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: two()},
			want: corev1.PodSpec{Volumes: tokens, InitContainers: []corev1.Container{{Name: "i", VolumeMounts: []corev1.VolumeMount{mount}}},
				Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{mount}}, {Name: "b", VolumeMounts: []corev1.VolumeMount{mount}}}},
		},
		"one that mounts something there keeps it": {
			spec: corev1.PodSpec{Containers: two(own)},
			want: corev1.PodSpec{Volumes: tokens, Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{own}}, {Name: "b", VolumeMounts: []corev1.VolumeMount{mount}}}},
		},
		"a volume that nobody needs is not added": {
			spec: corev1.PodSpec{Containers: two(own)[:1]},
			want: corev1.PodSpec{Containers: two(own)[:1]},
		},
		"a volume of a Pod that was copied is used": {
			spec: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "kube-api-access-old"}}, Containers: two()[:1]},
			want: corev1.PodSpec{Volumes: []corev1.Volume{{Name: "kube-api-access-old"}},
				Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{{Name: "kube-api-access-old", ReadOnly: true, MountPath: TokenMountPath}}}}},
		},
		"the Pod declines": {
			spec: corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: two()},
			want: corev1.PodSpec{AutomountServiceAccountToken: new(false), Containers: two()},
		},
		"the account declines": {
			spec:    corev1.PodSpec{Containers: two()},
			account: corev1.ServiceAccount{AutomountServiceAccountToken: new(false)},
			want:    corev1.PodSpec{Containers: two()},
		},
		"the Pod knows better than its account": {
			spec:    corev1.PodSpec{AutomountServiceAccountToken: new(true), Containers: two()[:1]},
			account: corev1.ServiceAccount{AutomountServiceAccountToken: new(false)},
			want: corev1.PodSpec{AutomountServiceAccountToken: new(true), Volumes: tokens,
				Containers: []corev1.Container{{Name: "a", VolumeMounts: []corev1.VolumeMount{mount}}}},
		},
		"credentials for registries are those of the account": {
			account: corev1.ServiceAccount{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "r"}}},
			want:    corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "r"}}},
		},
		"unless the Pod names some": {
			spec:    corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "own"}}},
			account: corev1.ServiceAccount{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "r"}}},
			want:    corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{{Name: "own"}}},
		},
		"a mirror Pod stays what its manifest says": {
			mirror: true, spec: corev1.PodSpec{Containers: two()}, want: corev1.PodSpec{Containers: two()},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			pod := &keelsonv1.Pod{Spec: tt.spec}
			if tt.mirror {
				pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			}
			for range 2 { // running it twice changes nothing more
				Account(pod, &tt.account, "kube-api-access-x")
				if diff := cmp.Diff(tt.want, pod.Spec); diff != "" {
					t.Fatalf("spec (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCheckAccount(t *testing.T) {
	ref := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	strict := corev1.ServiceAccount{Secrets: []corev1.ObjectReference{{Name: "ok"}}, ImagePullSecrets: []corev1.LocalObjectReference{ref("pull")}}
	strict.Name, strict.Annotations = "robot", map[string]string{enforceMountable: "true"}
	lax := strict
	lax.Annotations = nil
	variable := func(secret string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "V", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: ref(secret)}}}}
	}
	from := []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: ref("no")}}}
	volume := func(secret string) []corev1.Volume {
		return []corev1.Volume{{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}}
	}
	tests := map[string]struct {
		spec    corev1.PodSpec
		account corev1.ServiceAccount
		want    string
	}{
		"an account that does not ask":  {spec: corev1.PodSpec{Volumes: volume("no")}, account: lax},
		"a listed Secret":               {spec: corev1.PodSpec{Volumes: volume("ok"), Containers: []corev1.Container{{Env: variable("ok")}}}, account: strict},
		"a volume of another":           {spec: corev1.PodSpec{Volumes: volume("no")}, account: strict, want: `volume with secret.secretName="no" is not allowed because service account robot does not reference that secret`},
		"a variable of another":         {spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Env: variable("no")}}}, account: strict, want: `container c with envVar V referencing secret.secretName="no" is not allowed because service account robot does not reference that secret`},
		"all variables of another":      {spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "c", EnvFrom: from}}}, account: strict, want: `init container c with envFrom referencing secret.secretName="no" is not allowed because service account robot does not reference that secret`},
		"another's registry credential": {spec: corev1.PodSpec{ImagePullSecrets: []corev1.LocalObjectReference{ref("pull"), ref("no")}}, account: strict, want: `imagePullSecrets[1].name="no" is not allowed because service account robot does not reference that imagePullSecret`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := CheckAccount(&tt.spec, &tt.account); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestKeepToken(t *testing.T) {
	token := corev1.VolumeMount{Name: "kube-api-access-x", ReadOnly: true, MountPath: TokenMountPath}
	data := corev1.VolumeMount{Name: "data", MountPath: "/data"}
	spec := func(volumes []string, mounts ...corev1.VolumeMount) corev1.PodSpec {
		s := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", VolumeMounts: mounts}}}
		for _, name := range volumes {
			s.Volumes = append(s.Volumes, corev1.Volume{Name: name})
		}
		return s
	}
	with := spec([]string{"data", "kube-api-access-x"}, data, token)
	tests := map[string]struct{ now, old, want corev1.PodSpec }{
		"lists of the manifest":         {now: spec([]string{"data"}, data), old: with, want: with},
		"an update that has it":         {now: with, old: with, want: with},
		"only the mount is missing":     {now: spec([]string{"data", "kube-api-access-x"}, data), old: with, want: with},
		"a Pod that never had it":       {now: spec([]string{"data"}, data), old: spec([]string{"data"}, data), want: spec([]string{"data"}, data)},
		"a mount that the user dropped": {now: spec([]string{"data"}), old: with, want: spec([]string{"data", "kube-api-access-x"}, token)},
		"a container that had none":     {now: spec([]string{"data"}, data), old: spec([]string{"data", "kube-api-access-x"}, data), want: spec([]string{"data", "kube-api-access-x"}, data)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			now := tt.now.DeepCopy()
			KeepToken(now, &tt.old)
			if diff := cmp.Diff(&tt.want, now); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
		})
	}
}
