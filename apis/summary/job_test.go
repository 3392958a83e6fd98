package summary

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

func TestJob(t *testing.T) {
	start := metav1.NewTime(time.Unix(1000, 0))
	is := func(conditions ...upstreambatchv1.JobConditionType) func(*batchv1.Job) {
		return func(j *batchv1.Job) {
			for _, c := range conditions {
				j.Status.Conditions = append(j.Status.Conditions, upstreambatchv1.JobCondition{Type: c, Status: corev1.ConditionTrue})
			}
		}
	}
	for name, tc := range map[string]struct {
		change                        func(*batchv1.Job)
		status, completions, duration string
	}{
		"new":                   {func(*batchv1.Job) {}, "Running", "0/1", ""},
		"of three":              {func(j *batchv1.Job) { j.Spec.Completions, j.Status.Succeeded = new(int32(3)), 2 }, "Running", "2/3", ""},
		"a queue of work":       {func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(4)) }, "Running", "0/1 of 4", ""},
		"running":               {func(j *batchv1.Job) { j.Status.StartTime = &start }, "Running", "0/1", "since 1970-01-01T00:16:40Z"},
		"suspended":             {is(upstreambatchv1.JobSuspended), "Suspended", "0/1", ""},
		"about to fail":         {is(upstreambatchv1.JobFailureTarget), "FailureTarget", "0/1", ""},
		"about to be complete":  {is(upstreambatchv1.JobSuccessCriteriaMet), "SuccessCriteriaMet", "0/1", ""},
		"failed":                {is(upstreambatchv1.JobFailureTarget, upstreambatchv1.JobFailed), "Failed", "0/1", ""},
		"deleted while it runs": {func(j *batchv1.Job) { j.DeletionTimestamp = &start }, "Terminating", "0/1", ""},
		"complete": {func(j *batchv1.Job) {
			is(upstreambatchv1.JobSuccessCriteriaMet, upstreambatchv1.JobComplete)(j)
			j.Status.StartTime, j.Status.CompletionTime = &start, new(metav1.NewTime(start.Add(90*time.Second)))
		}, "Complete", "0/1", "90s"},
	} {
		t.Run(name, func(t *testing.T) {
			j := &batchv1.Job{}
			j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
			j.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}, {Name: "d", Image: "k"}}
			tc.change(j)
			want := batchv1.JobSummary{Status: tc.status, Completions: tc.completions, Duration: tc.duration, Containers: "c,d", Images: "i,k", Selector: "a=b"}
			if diff := cmp.Diff(want, Job(j)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCronJob(t *testing.T) {
	c := &batchv1.CronJob{}
	c.Spec.Suspend = new(true)
	c.Status.Active = make([]corev1.ObjectReference, 2)
	c.Spec.JobTemplate.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
	if diff := cmp.Diff(batchv1.CronJobSummary{Suspend: "True", Active: 2, Containers: "c", Images: "i", Selector: "<none>"}, CronJob(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
