package replicas

import (
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podadmission"
)

// renderPod makes one Pod from the owner's template. Admission does not see it (the
// template was admitted), so it gets here what admission would have added.
func renderPod(owner *Owner) *keelsonv1.Pod {
	template := owner.Template
	pod := &keelsonv1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.Object.GetNamespace(),
			GenerateName:    generateName(owner.Object.GetName()),
			Labels:          maps.Clone(template.Labels),
			Annotations:     maps.Clone(template.Annotations),
			Finalizers:      slices.Clone(template.Finalizers),
			OwnerReferences: []metav1.OwnerReference{*controllerRef(owner)},
		},
		Spec: *template.Spec.DeepCopy(),
	}
	podadmission.Default(pod)
	return pod
}

func controllerRef(owner *Owner) *metav1.OwnerReference {
	return metav1.NewControllerRef(owner.Object, owner.Kind)
}

// generateName puts a dash behind the owner's name where the result can still begin
// a Pod's name. The API server cuts it to 58 characters and appends five.
func generateName(owner string) string {
	if prefix := owner + "-"; len(validation.IsDNS1123Subdomain(prefix+"x")) == 0 {
		return prefix
	}
	return owner
}

// renderAdopted returns pod with the owner as its controller.
func renderAdopted(owner *Owner, pod *keelsonv1.Pod) *keelsonv1.Pod {
	adopted := pod.DeepCopy()
	adopted.OwnerReferences = slices.DeleteFunc(adopted.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner.Object.GetUID()
	})
	adopted.OwnerReferences = append(adopted.OwnerReferences, *controllerRef(owner))
	return adopted
}

// renderReleased returns pod without any reference to the owner.
func renderReleased(owner *Owner, pod *keelsonv1.Pod) *keelsonv1.Pod {
	released := pod.DeepCopy()
	released.OwnerReferences = slices.DeleteFunc(released.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.UID == owner.Object.GetUID()
	})
	return released
}
