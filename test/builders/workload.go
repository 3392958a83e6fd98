package builders

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ReplicationControllerBuilder builds a ReplicationController.
type ReplicationControllerBuilder struct {
	rc keelsonv1.ReplicationController
}

// MakeReplicationController starts a ReplicationController with replicas copies of a
// Pod labelled app=<name>, selected by that label.
func MakeReplicationController(name string, replicas int32) *ReplicationControllerBuilder {
	labels := map[string]string{"app": name}
	b := &ReplicationControllerBuilder{}
	b.rc.Name = name
	b.rc.Namespace = DefaultNamespace
	b.rc.Spec = corev1.ReplicationControllerSpec{
		Replicas: new(replicas),
		Selector: labels,
		Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}},
			Spec:       MakePod("").Obj().Spec,
		},
	}
	return b
}

// Obj returns the ReplicationController.
func (b *ReplicationControllerBuilder) Obj() *keelsonv1.ReplicationController {
	return b.rc.DeepCopy()
}

// Namespace sets the namespace.
func (b *ReplicationControllerBuilder) Namespace(ns string) *ReplicationControllerBuilder {
	b.rc.Namespace = ns
	return b
}

// UID sets the UID.
func (b *ReplicationControllerBuilder) UID(uid string) *ReplicationControllerBuilder {
	b.rc.UID = types.UID(uid)
	return b
}

// Generation sets metadata.generation.
func (b *ReplicationControllerBuilder) Generation(n int64) *ReplicationControllerBuilder {
	b.rc.Generation = n
	return b
}

// Selector replaces the selector; nil leaves it to be defaulted.
func (b *ReplicationControllerBuilder) Selector(selector map[string]string) *ReplicationControllerBuilder {
	b.rc.Spec.Selector = selector
	return b
}

// TemplateLabel sets one label of the template.
func (b *ReplicationControllerBuilder) TemplateLabel(key, value string) *ReplicationControllerBuilder {
	setString(&b.rc.Spec.Template.Labels, key, value)
	return b
}

// MinReadySeconds sets spec.minReadySeconds.
func (b *ReplicationControllerBuilder) MinReadySeconds(n int32) *ReplicationControllerBuilder {
	b.rc.Spec.MinReadySeconds = n
	return b
}

// Template changes the template.
func (b *ReplicationControllerBuilder) Template(change func(*corev1.PodTemplateSpec)) *ReplicationControllerBuilder {
	change(b.rc.Spec.Template)
	return b
}

// Deleting marks the object as being deleted.
func (b *ReplicationControllerBuilder) Deleting(at time.Time) *ReplicationControllerBuilder {
	b.rc.DeletionTimestamp = new(metav1.NewTime(at))
	return b
}
