package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	// maxError keeps a note below the limit of events.k8s.io/v1 (1024 bytes); a longer
	// one would be refused.
	maxError = 600
	maxNote  = 1024
)

func eventScheduled(recorder events.EventRecorder, pod *keelsonv1.Pod, node string) {
	recorder.Eventf(pod, nil, corev1.EventTypeNormal, "Scheduled", "Binding",
		"Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, node)
}

func eventFailedScheduling(recorder events.EventRecorder, pod *keelsonv1.Pod, message string) {
	recorder.Eventf(pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Scheduling", "%s", truncate(message))
}

func eventFailedBinding(recorder events.EventRecorder, pod *keelsonv1.Pod, err error) {
	recorder.Eventf(pod, nil, corev1.EventTypeWarning, "FailedScheduling", "Binding", "binding rejected: %.*s", maxError, err.Error())
}

func eventPreempted(recorder events.EventRecorder, victim, preemptor *keelsonv1.Pod, node string) {
	recorder.Eventf(victim, preemptor, corev1.EventTypeNormal, "Preempted", "Preempting",
		"Preempted by pod %v on node %v", preemptor.UID, node)
}

// truncate ends a note as upstream does.
func truncate(note string) string {
	const suffix = " ..."
	if len(note) <= maxNote {
		return note
	}
	return note[:maxNote-len(suffix)] + suffix
}
