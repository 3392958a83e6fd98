package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

func TestCopiesOfManifestsAreKeptForPodsThatAskOnly(t *testing.T) {
	for path, kept := range map[string]bool{"metadata.name": false, "metadata.annotations": true} {
		pod := &keelsonv1.Pod{}
		pod.Annotations = map[string]string{"a": "b", corev1.LastAppliedConfigAnnotation: "{}"}
		pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		pod.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{Path: "about", FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}}}}}
		if _, err := stripForCache(pod); err != nil {
			t.Fatal(err)
		}
		_, has := pod.Annotations[corev1.LastAppliedConfigAnnotation]
		if has != kept || pod.Annotations["a"] != "b" || pod.ManagedFields != nil {
			t.Errorf("%s: kept %v, want %v: %+v", path, has, kept, pod.ObjectMeta)
		}
	}
}
