package summary

import (
	"fmt"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// Since begins a column that names the time (RFC 3339) from which on a duration is
// counted that has no end yet.
const Since = "since "

// Job returns the STATUS, COMPLETIONS, DURATION, CONTAINERS, IMAGES and SELECTOR
// columns of job. Until the Job is complete the duration grows, and a stored string
// cannot: it says since when, and the gateway makes the time that has passed of it.
func Job(job *batchv1.Job) batchv1.JobSummary {
	names, images := containerColumns(&job.Spec.Template)
	s := batchv1.JobSummary{
		Status:      jobStatus(job),
		Completions: jobCompletions(job),
		Containers:  names,
		Images:      images,
	}
	switch start, end := job.Status.StartTime, job.Status.CompletionTime; {
	case start == nil:
	case end == nil:
		s.Duration = Since + start.UTC().Format(time.RFC3339)
	default:
		s.Duration = duration.HumanDuration(end.Sub(start.Time))
	}
	if job.Spec.Selector != nil {
		s.Selector = metav1.FormatLabelSelector(job.Spec.Selector)
	}
	return s
}

func jobStatus(job *batchv1.Job) string {
	is := func(t upstreambatchv1.JobConditionType) bool {
		for _, c := range job.Status.Conditions {
			if c.Type == t {
				return c.Status == corev1.ConditionTrue
			}
		}
		return false
	}
	switch {
	case is(upstreambatchv1.JobComplete):
		return string(upstreambatchv1.JobComplete)
	case is(upstreambatchv1.JobFailed):
		return string(upstreambatchv1.JobFailed)
	case job.DeletionTimestamp != nil:
		return "Terminating"
	case is(upstreambatchv1.JobSuspended):
		return string(upstreambatchv1.JobSuspended)
	case is(upstreambatchv1.JobFailureTarget):
		return string(upstreambatchv1.JobFailureTarget)
	case is(upstreambatchv1.JobSuccessCriteriaMet):
		return string(upstreambatchv1.JobSuccessCriteriaMet)
	default:
		return "Running"
	}
}

func jobCompletions(job *batchv1.Job) string {
	if wanted := job.Spec.Completions; wanted != nil {
		return fmt.Sprintf("%d/%d", job.Status.Succeeded, *wanted)
	}
	if p := job.Spec.Parallelism; p != nil && *p > 1 {
		return fmt.Sprintf("%d/1 of %d", job.Status.Succeeded, *p)
	}
	return fmt.Sprintf("%d/1", job.Status.Succeeded)
}

// CronJob returns the SUSPEND, ACTIVE, CONTAINERS, IMAGES and SELECTOR columns of a
// CronJob.
func CronJob(cronJob *batchv1.CronJob) batchv1.CronJobSummary {
	names, images := containerColumns(&cronJob.Spec.JobTemplate.Spec.Template)
	suspend := "False"
	if s := cronJob.Spec.Suspend; s != nil && *s {
		suspend = "True"
	}
	return batchv1.CronJobSummary{
		Suspend: suspend, Active: int32(len(cronJob.Status.Active)), Containers: names, Images: images,
		Selector: metav1.FormatLabelSelector(cronJob.Spec.JobTemplate.Spec.Selector),
	}
}
