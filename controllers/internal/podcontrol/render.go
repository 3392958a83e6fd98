package podcontrol

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// Render makes one Pod from a template, with a name that the API server completes; a
// caller that names its Pods sets Name and clears GenerateName. Admission does not see
// it (the template was admitted), so it gets here what admission would have defaulted.
// It shares no memory with the template.
func Render(owner Owner, template *corev1.PodTemplateSpec) *keelsonv1.Pod {
	pod := &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.Object.GetNamespace(),
			GenerateName:    generateName(owner.Object.GetName()),
			Labels:          maps.Clone(template.Labels),
			Annotations:     maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner.Object, owner.Kind)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	podadmission.Default(pod)
	return pod
}

// generateName puts a dash behind the owner's name where the result can still begin
// a Pod's name. The API server cuts it to 58 characters and appends five.
func generateName(owner string) string {
	if prefix := owner + "-"; len(validation.IsDNS1123Subdomain(prefix+"x")) == 0 {
		return prefix
	}
	return owner
}
