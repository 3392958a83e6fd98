package cronjob

import (
	"cmp"
	"maps"
	"slices"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// observed is what the Jobs of a CronJob mean for its status.
type observed struct {
	active         []corev1.ObjectReference
	lastSchedule   *metav1.Time
	lastSuccessful *metav1.Time
	// vanished are active Jobs that the cache does not show.
	vanished []corev1.ObjectReference
	events   []note
}

// observe reads the status from the children of cronJob. A Job that this controller
// made just before it died is recognised by its name and annotation.
func observe(cronJob *batchv1.CronJob, children []*batchv1.Job) observed {
	o := observed{
		lastSchedule:   cronJob.Status.LastScheduleTime.DeepCopy(),
		lastSuccessful: cronJob.Status.LastSuccessfulTime.DeepCopy(),
	}
	byUID := make(map[types.UID]*batchv1.Job, len(children))
	for _, job := range children {
		byUID[job.UID] = job
	}
	listed := map[types.UID]bool{}
	for _, ref := range cronJob.Status.Active {
		listed[ref.UID] = true
		job := byUID[ref.UID]
		switch {
		case job == nil:
			o.vanished = append(o.vanished, ref)
		case jobs.Finished(job) != nil:
			o.events = append(o.events, sawCompleted(job))
		default:
			o.active = append(o.active, ref)
		}
	}
	for _, job := range children {
		o.observeSuccess(job)
		if listed[job.UID] || jobs.Finished(job) != nil {
			continue
		}
		at, ours := scheduledTime(cronJob, job)
		if !ours {
			o.events = append(o.events, unexpected(job))
			continue
		}
		o.active = append(o.active, refTo(job))
		if o.lastSchedule == nil || o.lastSchedule.Time.Before(at) {
			o.lastSchedule = new(metav1.NewTime(at))
		}
	}
	return o
}

func (o *observed) observeSuccess(job *batchv1.Job) {
	end := job.Status.CompletionTime
	if end == nil || !jobs.IsTrue(job.Status.Conditions, upstreambatchv1.JobComplete) {
		return
	}
	if o.lastSuccessful == nil || o.lastSuccessful.Before(end) {
		o.lastSuccessful = end.DeepCopy()
	}
}

// scheduledTime is the time that this controller made job for; ok is false for one that
// somebody else made.
func scheduledTime(cronJob *batchv1.CronJob, job *batchv1.Job) (at time.Time, ok bool) {
	at, err := time.Parse(time.RFC3339, job.Annotations[upstreambatchv1.CronJobScheduledTimestampAnnotation])
	return at, err == nil && job.Name == jobName(cronJob.Name, at)
}

// planHistory returns the finished Jobs beyond the limits, oldest first.
func planHistory(cronJob *batchv1.CronJob, children []*batchv1.Job) []*batchv1.Job {
	var succeeded, failed []*batchv1.Job
	for _, job := range children {
		switch end := jobs.Finished(job); {
		case end == nil || job.DeletionTimestamp != nil:
		case end.Type == upstreambatchv1.JobComplete:
			succeeded = append(succeeded, job)
		default:
			failed = append(failed, job)
		}
	}
	return slices.Concat(
		beyond(succeeded, valueOr(cronJob.Spec.SuccessfulJobsHistoryLimit, 3)),
		beyond(failed, valueOr(cronJob.Spec.FailedJobsHistoryLimit, 1)),
	)
}

func beyond(finished []*batchv1.Job, limit int32) []*batchv1.Job {
	surplus := len(finished) - int(limit)
	if surplus <= 0 {
		return nil
	}
	slices.SortFunc(finished, func(a, b *batchv1.Job) int {
		return cmp.Or(startOf(a).Compare(startOf(b)), cmp.Compare(a.Name, b.Name))
	})
	return finished[:surplus]
}

// startOf puts a Job that never started behind all others.
func startOf(job *batchv1.Job) time.Time {
	if job.Status.StartTime == nil {
		return time.Unix(1<<40, 0)
	}
	return job.Status.StartTime.Time
}

func valueOr[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// start is what the schedule asks for now.
type start struct {
	// at is the time to make a Job for; nil for none.
	at *time.Time
	// replace are running Jobs to delete before.
	replace []corev1.ObjectReference
	// wait is when to look again; 0 for never, until something changes.
	wait   time.Duration
	events []note
}

// planStart decides. cronJob has the status that is going to be written.
func planStart(cronJob *batchv1.CronJob, now time.Time) start {
	if cronJob.DeletionTimestamp != nil {
		return start{}
	}
	if zone := cronJob.Spec.TimeZone; zone != nil {
		if _, err := time.LoadLocation(*zone); err != nil {
			return start{events: []note{unknownZone(*zone, err)}}
		}
	}
	if valueOr(cronJob.Spec.Suspend, false) {
		return start{}
	}
	schedule, err := parse(cronJob)
	if err != nil {
		return start{events: []note{unparseable(cronJob, err)}}
	}
	s, err := slotAt(cronJob, schedule, true, now)
	if err != nil {
		return start{events: []note{invalidSchedule(cronJob, err)}}
	}
	plan := planSlot(cronJob, s, now)
	if plan.at == nil {
		plan.wait = waitForNext(cronJob, schedule, now)
	}
	if s.due != nil && s.missed > manyMissed {
		plan.events = append([]note{tooManyMissed()}, plan.events...)
	}
	return plan
}

// planSlot decides about the time that is due.
func planSlot(cronJob *batchv1.CronJob, s slot, now time.Time) start {
	if s.due == nil {
		return start{}
	}
	if deadline := cronJob.Spec.StartingDeadlineSeconds; deadline != nil && s.due.Add(time.Duration(*deadline)*time.Second).Before(now) {
		return start{events: []note{missedStart(*s.due)}}
	}
	active, name := cronJob.Status.Active, jobName(cronJob.Name, *s.due)
	if slices.ContainsFunc(active, func(ref corev1.ObjectReference) bool { return ref.Name == name }) ||
		cronJob.Status.LastScheduleTime.Equal(new(metav1.NewTime(*s.due))) {
		return start{}
	}
	switch {
	case cronJob.Spec.ConcurrencyPolicy == upstreambatchv1.ForbidConcurrent && len(active) > 0:
		return start{events: []note{alreadyActive()}}
	case cronJob.Spec.ConcurrencyPolicy == upstreambatchv1.ReplaceConcurrent:
		return start{at: s.due, replace: active}
	}
	return start{at: s.due}
}

// renderJob makes the Job of one time. Admission does not see it, so it gets here what
// admission would have defaulted.
func renderJob(cronJob *batchv1.CronJob, at time.Time) (*batchv1.Job, error) {
	zone, err := time.LoadLocation(valueOr(cronJob.Spec.TimeZone, ""))
	if err != nil {
		return nil, err
	}
	template := cronJob.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       cronJob.Namespace,
			Name:            jobName(cronJob.Name, at),
			Labels:          template.Labels,
			Annotations:     maps.Clone(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cronJob, kind)},
		},
		Spec: template.Spec,
	}
	if job.Annotations == nil {
		job.Annotations = map[string]string{}
	}
	job.Annotations[upstreambatchv1.CronJobScheduledTimestampAnnotation] = at.In(zone).Format(time.RFC3339)
	jobs.Default(job)
	return job, nil
}

// refTo is how status.active names job.
func refTo(job *batchv1.Job) corev1.ObjectReference {
	return corev1.ObjectReference{
		APIVersion: jobs.Kind.GroupVersion().String(), Kind: jobs.Kind.Kind,
		Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion,
	}
}
