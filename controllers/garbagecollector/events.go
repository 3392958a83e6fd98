package garbagecollector

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
)

const (
	// reasonInvalidNamespace is upstream's, and so is the text of the event.
	reasonInvalidNamespace = "OwnerRefInvalidNamespace"

	actionJudge = "JudgeOwners"
)

// reportNamespace says, once, that ref of o names an object of another namespace: it
// counts as absent there, and o may go for it.
func (c *collector) reportNamespace(o *object, ref metav1.OwnerReference) {
	if c.graph.elsewhere(ref, o) && c.reported.add(report{o.uid, ref.UID}) {
		recordInvalidNamespace(c.recorder, o, ref)
	}
}

func recordInvalidNamespace(r events.EventRecorder, o *object, ref metav1.OwnerReference) {
	regarding := &corev1.ObjectReference{
		APIVersion: o.resource.GroupVersion().String(), Kind: o.resource.Kind, Namespace: o.namespace, Name: o.name, UID: o.uid,
	}
	r.Eventf(regarding, nil, corev1.EventTypeWarning, reasonInvalidNamespace, actionJudge,
		"ownerRef [%s/%s, namespace: %s, name: %s, uid: %s] does not exist in namespace %q",
		ref.APIVersion, ref.Kind, o.namespace, ref.Name, ref.UID, o.namespace)
}
