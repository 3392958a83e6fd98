package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

const (
	reasonDeadlineExceeded  = "DeadlineExceeded"
	messageDeadlineExceeded = "Pod was active on the node longer than the specified deadline"
)

// deadline is when the Pod has run long enough; zero means never. It counts from the
// start that the status names.
func (m *Manager) deadline(pod *keelsonv1.Pod) time.Time {
	start := m.previousStatus(pod).StartTime
	if pod.Spec.ActiveDeadlineSeconds == nil || start.IsZero() {
		return time.Time{}
	}
	return start.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
}

// endOverdue makes a Pod fail that is past its deadline and has not ended before.
func (m *Manager) endOverdue(pod *keelsonv1.Pod) {
	deadline, phase := m.deadline(pod), m.previousStatus(pod).Phase
	ended := phase == corev1.PodSucceeded || phase == corev1.PodFailed || m.recall(pod.UID).failure != nil
	if ended || deadline.IsZero() || m.Clock.Now().Before(deadline) {
		return
	}
	m.Recorder.Record(pod, Note{Type: corev1.EventTypeNormal, Reason: reasonDeadlineExceeded, Message: messageDeadlineExceeded})
	m.Reject(pod.UID, reasonDeadlineExceeded, messageDeadlineExceeded)
}
