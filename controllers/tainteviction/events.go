package tainteviction

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// reasonEviction is upstream's reason of both events.
const reasonEviction = "TaintManagerEviction"

func recordEvicted(r events.EventRecorder, pod *keelsonv1.Pod) {
	r.Eventf(pod, nil, corev1.EventTypeNormal, reasonEviction, "Evict", "Marking for deletion Pod %s", client.ObjectKeyFromObject(pod))
}

func recordCancelled(r events.EventRecorder, pod *keelsonv1.Pod) {
	r.Eventf(pod, nil, corev1.EventTypeNormal, reasonEviction, "CancelEviction", "Cancelling deletion of Pod %s", client.ObjectKeyFromObject(pod))
}
