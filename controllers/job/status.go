package job

import (
	"slices"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// Reasons and messages of the condition Suspended; upstream's.
const (
	reasonSuspended  = "JobSuspended"
	reasonResumed    = "JobResumed"
	messageSuspended = "Job suspended"
	messageResumed   = "Job resumed"
)

// startStatus is the status to work on: that of job, with the fields that every Job
// under way has.
func startStatus(s *snapshot) upstreambatchv1.JobStatus {
	status := *s.job.Status.JobStatus.DeepCopy()
	if status.UncountedTerminatedPods == nil {
		status.UncountedTerminatedPods = &upstreambatchv1.UncountedTerminatedPods{}
	}
	if status.StartTime == nil && !s.suspended() {
		status.StartTime = stamp(s.now)
	}
	return status
}

// setCounts writes what is left after a plan for the Pods was executed as done says.
func setCounts(s *snapshot, status *upstreambatchv1.JobStatus, done outcome) {
	status.Active = max(0, int32(len(s.active))-done.deleted+done.created)
	status.Ready = new(min(status.Active, max(0, s.ready-done.deletedReady)))
	status.Terminating = new(s.terminating + done.deleted)
}

// setSuspended keeps the condition Suspended and the start time in step with
// spec.suspend, and says which event to record; "" for none. A Job's deadline counts
// the time that it is active.
func setSuspended(s *snapshot, status *upstreambatchv1.JobStatus) (event string) {
	had := jobs.Condition(status.Conditions, upstreambatchv1.JobSuspended)
	want := newCondition(upstreambatchv1.JobSuspended, reasonSuspended, messageSuspended, s.now)
	if !s.suspended() {
		want = newCondition(upstreambatchv1.JobSuspended, reasonResumed, messageResumed, s.now)
		want.Status = corev1.ConditionFalse
	}
	switch {
	case had == nil && !s.suspended():
		return ""
	case had == nil:
		status.Conditions = append(status.Conditions, *want)
	case had.Status == want.Status && had.Reason == want.Reason && had.Message == want.Message:
		return ""
	default:
		*had = *want
	}
	if s.suspended() {
		status.StartTime = nil
		return eventSuspended
	}
	status.StartTime = stamp(s.now)
	return eventResumed
}

// setTarget writes the interim condition of a verdict and returns the one that will say
// that the Job has finished.
func setTarget(status *upstreambatchv1.JobStatus, end *verdict, now time.Time) *verdict {
	switch end.Type {
	case upstreambatchv1.JobFailureTarget:
		status.Conditions = append(status.Conditions, *end)
		return failed(end, now)
	case upstreambatchv1.JobSuccessCriteriaMet:
		if !jobs.IsTrue(status.Conditions, upstreambatchv1.JobSuccessCriteriaMet) {
			status.Conditions = append(status.Conditions, *end)
		}
		return newCondition(upstreambatchv1.JobComplete, end.Reason, end.Message, now)
	}
	return end
}

// setFinished writes the last condition, unless a Pod is left that is not counted or
// has not gone yet.
func setFinished(status *upstreambatchv1.JobStatus, final *verdict) (finished bool) {
	u := status.UncountedTerminatedPods
	if len(u.Succeeded)+len(u.Failed) > 0 || *status.Terminating > 0 {
		return false
	}
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c upstreambatchv1.JobCondition) bool { return c.Type == final.Type })
	status.Conditions = append(status.Conditions, *final)
	if final.Type == upstreambatchv1.JobComplete {
		status.CompletionTime = final.LastTransitionTime.DeepCopy()
	}
	return true
}

// withStatus returns job with status, and the columns that follow from it.
func withStatus(job *batchv1.Job, status upstreambatchv1.JobStatus) *batchv1.Job {
	after := job.DeepCopy()
	after.Status.JobStatus = *status.DeepCopy()
	after.Status.Summary = summary.Job(after)
	return after
}

func statusEqual(a, b *batchv1.JobStatus) bool { return equality.Semantic.DeepEqual(a, b) }

// stamp is now as the API stores it.
func stamp(now time.Time) *metav1.Time { return new(metav1.NewTime(now.Truncate(time.Second))) }
