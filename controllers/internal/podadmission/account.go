package podadmission

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// TokenVolumePrefix starts the name of the volume that Account adds; upstream adds
	// five letters.
	TokenVolumePrefix = "kube-api-access-"
	// TokenMountPath is where programs look for their credentials.
	TokenMountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

	// tokenSeconds is upstream's life of a token nobody said anything of.
	tokenSeconds = 3607
	tokenMode    = 0o644
	rootCA       = "kube-root-ca.crt"
	// enforceMountable is upstream's old wish to limit Secrets to those an account lists.
	enforceMountable = "kubernetes.io/enforce-mountable-secrets"
)

// Account completes pod by what its ServiceAccount says, as upstream's ServiceAccount
// plugin: credentials for the API unless one of them declines, and credentials for
// registries. volume is the name of the volume to add, should one be needed.
func Account(pod *keelsonv1.Pod, account *corev1.ServiceAccount, volume string) {
	if mirror(pod) {
		return
	}
	if automounts(&pod.Spec, account) {
		mountToken(&pod.Spec, volume)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 && len(account.ImagePullSecrets) > 0 {
		pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), account.ImagePullSecrets...)
	}
}

// mirror says whether pod shows a static Pod, which must not differ from its manifest.
func mirror(pod *keelsonv1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

func automounts(spec *corev1.PodSpec, account *corev1.ServiceAccount) bool {
	switch {
	case spec.AutomountServiceAccountToken != nil:
		return *spec.AutomountServiceAccountToken
	case account.AutomountServiceAccountToken != nil:
		return *account.AutomountServiceAccountToken
	}
	return true
}

// mountToken gives every container that has nothing at TokenMountPath the volume.
func mountToken(spec *corev1.PodSpec, volume string) {
	present := false
	for i := range spec.Volumes {
		if strings.HasPrefix(spec.Volumes[i].Name, TokenVolumePrefix) {
			volume, present = spec.Volumes[i].Name, true
			break
		}
	}
	needed := false
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			needed = mountIn(&list[i], volume) || needed
		}
	}
	if needed && !present {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{Projected: tokenVolume()}})
	}
}

func mountIn(c *corev1.Container, volume string) bool {
	for i := range c.VolumeMounts {
		if c.VolumeMounts[i].MountPath == TokenMountPath {
			return false
		}
	}
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: TokenMountPath})
	return true
}

// tokenVolume holds a token, the authority of the API server, and the Namespace.
func tokenVolume() *corev1.ProjectedVolumeSource {
	return &corev1.ProjectedVolumeSource{
		DefaultMode: new(int32(tokenMode)),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: new(int64(tokenSeconds))}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
			}}},
		},
	}
}

// CheckAccount returns why the Pod may not run as the account, in upstream's words. Only
// an account that asks for it limits which Secrets its Pods name.
func CheckAccount(spec *corev1.PodSpec, account *corev1.ServiceAccount) error {
	enforce, err := strconv.ParseBool(account.Annotations[enforceMountable])
	if wanted := err == nil && enforce; !wanted { // what is no truth value asks for nothing
		return nil
	}
	listed := map[string]bool{}
	for _, secret := range account.Secrets {
		listed[secret.Name] = true
	}
	for i := range spec.Volumes {
		if secret := spec.Volumes[i].Secret; secret != nil && !listed[secret.SecretName] {
			return fmt.Errorf("volume with secret.secretName=%q is not allowed because service account %s does not reference that secret",
				secret.SecretName, account.Name)
		}
	}
	if err := checkVariables("init container", spec.InitContainers, listed, account.Name); err != nil {
		return err
	}
	if err := checkVariables("container", spec.Containers, listed, account.Name); err != nil {
		return err
	}
	pulls := map[string]bool{}
	for _, secret := range account.ImagePullSecrets {
		pulls[secret.Name] = true
	}
	for i, secret := range spec.ImagePullSecrets {
		if !pulls[secret.Name] {
			return fmt.Errorf("imagePullSecrets[%d].name=%q is not allowed because service account %s does not reference that imagePullSecret",
				i, secret.Name, account.Name)
		}
	}
	return nil
}

func checkVariables(word string, containers []corev1.Container, listed map[string]bool, account string) error {
	for i := range containers {
		c := &containers[i]
		for _, variable := range c.Env {
			if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil && !listed[variable.ValueFrom.SecretKeyRef.Name] {
				return fmt.Errorf("%s %s with envVar %s referencing secret.secretName=%q is not allowed because service account %s does not reference that secret",
					word, c.Name, variable.Name, variable.ValueFrom.SecretKeyRef.Name, account)
			}
		}
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil && !listed[from.SecretRef.Name] {
				return fmt.Errorf("%s %s with envFrom referencing secret.secretName=%q is not allowed because service account %s does not reference that secret",
					word, c.Name, from.SecretRef.Name, account)
			}
		}
	}
	return nil
}

// KeepToken puts back into an update what Account added at creation. `kubectl apply`
// sends the lists of the manifest, which do not have it: for kinds of CustomResources it
// merges no lists. Nobody can mean to take it away, for it may not change.
func KeepToken(spec, old *corev1.PodSpec) {
	volume := ""
	for i := range old.Volumes {
		if strings.HasPrefix(old.Volumes[i].Name, TokenVolumePrefix) {
			volume = old.Volumes[i].Name
			if !hasVolume(spec, volume) {
				spec.Volumes = append(spec.Volumes, *old.Volumes[i].DeepCopy())
			}
			break
		}
	}
	if volume == "" {
		return
	}
	keepMounts(spec.InitContainers, old.InitContainers, volume)
	keepMounts(spec.Containers, old.Containers, volume)
}

func hasVolume(spec *corev1.PodSpec, name string) bool {
	for i := range spec.Volumes {
		if spec.Volumes[i].Name == name {
			return true
		}
	}
	return false
}

func keepMounts(containers, old []corev1.Container, volume string) {
	if len(containers) != len(old) {
		return // refused anyway
	}
	for i := range containers {
		for _, mount := range old[i].VolumeMounts {
			if mount.Name == volume && mount.MountPath == TokenMountPath {
				mountIn(&containers[i], volume)
			}
		}
	}
}
