package podautoscaler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
)

const actionScale = "Scale"

// recordFailed tells of a step that went wrong; reasons are upstream's.
func recordFailed(r events.EventRecorder, hpa *autoscalingv2.HorizontalPodAutoscaler, reason, message string) {
	r.Eventf(hpa, nil, corev1.EventTypeWarning, reason, actionScale, "%s", message)
}

func recordRescaled(r events.EventRecorder, hpa *autoscalingv2.HorizontalPodAutoscaler, size int32, reason string) {
	r.Eventf(hpa, nil, corev1.EventTypeNormal, "SuccessfulRescale", actionScale, "New size: %d; reason: %s", size, reason)
}

func recordNotRescaled(r events.EventRecorder, hpa *autoscalingv2.HorizontalPodAutoscaler, size int32, reason string, err error) {
	r.Eventf(hpa, nil, corev1.EventTypeWarning, "FailedRescale", actionScale, "New size: %d; reason: %s; error: %v", size, reason, err)
}
