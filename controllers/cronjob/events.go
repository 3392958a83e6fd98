package cronjob

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

const (
	actionSync = "SyncCronJob"
	// maxNote is below the limit of events.k8s.io/v1 (1024 bytes).
	maxNote = 1000
)

// note is an event about a CronJob. Reasons and texts are upstream's
// (pkg/controller/cronjob/cronjob_controllerv2.go).
type note struct{ eventType, reason, message string }

func record(r events.EventRecorder, cronJob *batchv1.CronJob, notes ...note) {
	for _, n := range notes {
		r.Eventf(cronJob, nil, n.eventType, n.reason, actionSync, "%s", n.message[:min(len(n.message), maxNote)])
	}
}

func normal(reason, format string, args ...any) note {
	return note{corev1.EventTypeNormal, reason, fmt.Sprintf(format, args...)}
}

func warning(reason, format string, args ...any) note {
	return note{corev1.EventTypeWarning, reason, fmt.Sprintf(format, args...)}
}

func sawCompleted(job *batchv1.Job) note {
	return normal("SawCompletedJob", "Saw completed job: %s, condition: %v", job.Name, jobs.Finished(job).Type)
}

func unexpected(job *batchv1.Job) note {
	return warning("UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", job.Name)
}

func missing(name string) note { return normal("MissingJob", "Active job went missing: %v", name) }

func unknownZone(zone string, err error) note {
	return warning("UnknownTimeZone", "invalid timeZone: %q: %s", zone, err)
}

func unparseable(cronJob *batchv1.CronJob, err error) note {
	return warning("UnparseableSchedule", "unparseable schedule: %q : %s", cronJob.Spec.Schedule, err)
}

func invalidSchedule(cronJob *batchv1.CronJob, err error) note {
	return warning("InvalidSchedule", "invalid schedule: %s : %s", cronJob.Spec.Schedule, err)
}

func tooManyMissed() note {
	return warning("TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
}

func missedStart(at time.Time) note {
	return warning("MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
}

func alreadyActive() note {
	return normal("JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
}

func created(name string) note { return normal("SuccessfulCreate", "Created job %v", name) }

func createFailed(err error) note { return warning("FailedCreate", "Error creating job: %v", err) }

func deleted(name string) note { return normal("SuccessfulDelete", "Deleted job %v", name) }

func deleteFailed(err error) note { return warning("FailedDelete", "Deleted job: %v", err) }
