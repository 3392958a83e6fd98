package job

import (
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// Reasons of events on a Job; they are upstream's, but for eventInvalid: upstream
// refuses such objects at admission.
const (
	eventSuspended = "Suspended"
	eventResumed   = "Resumed"
	eventCompleted = "Completed"
	eventTooMany   = "TooManySucceededPods"
	eventInvalid   = "InvalidSpec"

	actionSync = "SyncJob"
)

func recordSuspension(r events.EventRecorder, job *batchv1.Job, event string) {
	message := messageSuspended
	if event == eventResumed {
		message = messageResumed
	}
	r.Eventf(job, nil, corev1.EventTypeNormal, event, actionSync, "%s", message)
}

func recordFinished(r events.EventRecorder, job *batchv1.Job, end *verdict) {
	if end.Type != upstreambatchv1.JobComplete {
		r.Eventf(job, nil, corev1.EventTypeWarning, end.Reason, actionSync, "%s", end.Message)
		return
	}
	if wanted := job.Spec.Completions; wanted != nil && job.Status.Succeeded > *wanted {
		r.Eventf(job, nil, corev1.EventTypeWarning, eventTooMany, actionSync, "Too many succeeded pods running after completion count reached")
	}
	r.Eventf(job, nil, corev1.EventTypeNormal, eventCompleted, actionSync, "Job completed")
}

func recordInvalid(r events.EventRecorder, job *batchv1.Job, err error) {
	r.Eventf(job, nil, corev1.EventTypeWarning, eventInvalid, actionSync, "Cannot run the Job: %v", err)
}
