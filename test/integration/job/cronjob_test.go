package job

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/controllers/cronjob"
	"github.com/keelson-dev/keelson/controllers/ttlafterfinished"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func jobsOf(t testing.TB, ns string) []batchv1.Job {
	t.Helper()
	var list batchv1.JobList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func eventuallyJobs(t *testing.T, ns string, want int) (found []batchv1.Job) {
	t.Helper()
	env.Eventually(t, func() string {
		if found = jobsOf(t, ns); len(found) != want {
			return fmt.Sprintf("%d Jobs, want %d", len(found), want)
		}
		return ""
	})
	return found
}

// finish ends a Job as the job controller would.
func finish(t *testing.T, j *batchv1.Job, conditionType upstreambatchv1.JobConditionType, at time.Time) {
	t.Helper()
	before := j.DeepCopy()
	when := metav1.NewTime(at).Rfc3339Copy()
	j.Status.StartTime = &when
	j.Status.CompletionTime = &when
	j.Status.Conditions = []upstreambatchv1.JobCondition{{Type: conditionType, Status: corev1.ConditionTrue, LastTransitionTime: when}}
	if err := testEnv.Client.Status().Patch(t.Context(), j, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func makeCronJob(ns, name string) *batchv1.CronJob {
	return &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		Spec: upstreambatchv1.CronJobSpec{
			Schedule: "*/1 * * * *", TimeZone: new("Europe/Berlin"), SuccessfulJobsHistoryLimit: new(int32(1)),
			JobTemplate: upstreambatchv1.JobTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "tick"}},
				Spec:       builders.MakeJob("").Obj().Spec,
			},
		},
	}
}

func TestACronJobMakesItsJobs(t *testing.T) {
	now := clocktesting.NewFakePassiveClock(time.Now())
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return cronjob.Add(mgr, cronjob.Options{Clock: now}) })
	ns := testEnv.Namespace(t)
	c := makeCronJob(ns, "tick")
	testEnv.Create(t, c)
	minute := c.CreationTimestamp.Truncate(time.Minute).Add(time.Minute)
	poke := func(value string) {
		t.Helper()
		env.Change(t, &testEnv, c, func(c *batchv1.CronJob) { c.Spec.JobTemplate.Annotations = map[string]string{"poke": value} })
	}

	now.SetTime(minute.Add(time.Second))
	poke("1")
	j := eventuallyJobs(t, ns, 1)[0]
	if want := fmt.Sprintf("tick-%d", minute.Unix()/60); j.Name != want || !metav1.IsControlledBy(&j, c) || j.Labels["app"] != "tick" {
		t.Errorf("Job %+v, want the name %s", j.ObjectMeta, want)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := j.Annotations[upstreambatchv1.CronJobScheduledTimestampAnnotation], minute.In(berlin).Format(time.RFC3339); got != want {
		t.Errorf("scheduled timestamp %s, want %s", got, want)
	}
	env.Eventually(t, func() string {
		testEnv.Get(t, c)
		if len(c.Status.Active) != 1 || c.Status.Active[0].UID != j.UID || !c.Status.LastScheduleTime.Time.Equal(minute) || c.Status.Summary.Active != 1 {
			return fmt.Sprintf("status %+v", c.Status)
		}
		return ""
	})

	finish(t, &j, upstreambatchv1.JobComplete, now.Now())
	env.Eventually(t, func() string {
		testEnv.Get(t, c)
		if len(c.Status.Active) != 0 || c.Status.LastSuccessfulTime == nil || c.Status.Summary.Active != 0 {
			return fmt.Sprintf("status %+v", c.Status)
		}
		return ""
	})
	testEnv.EventuallyEvent(t, ns, "SuccessfulCreate", "Created job "+j.Name)
	testEnv.EventuallyEvent(t, ns, "SawCompletedJob", "Saw completed job: "+j.Name+", condition: Complete")

	// The history holds one: the second finished Job pushes the first out.
	now.SetTime(minute.Add(time.Minute + time.Second))
	poke("2")
	second := slices.DeleteFunc(eventuallyJobs(t, ns, 2), func(other batchv1.Job) bool { return other.UID == j.UID })[0]
	finish(t, &second, upstreambatchv1.JobComplete, now.Now())
	left := eventuallyJobs(t, ns, 1)
	if diff := cmp.Diff(second.Name, left[0].Name); diff != "" {
		t.Errorf("the Job that stays (-want +got):\n%s", diff)
	}
	testEnv.EventuallyEvent(t, ns, "SuccessfulDelete", "Deleted job "+j.Name)
}

// TestACronJobFindsTheJobOfItsPredecessor stands for a process that died between the Job
// and the status.
func TestACronJobFindsTheJobOfItsPredecessor(t *testing.T) {
	ns := testEnv.Namespace(t)
	c := makeCronJob(ns, "tick")
	testEnv.Create(t, c)
	minute := c.CreationTimestamp.Truncate(time.Minute).Add(time.Minute)
	j := builders.MakeJob(fmt.Sprintf("tick-%d", minute.Unix()/60)).Namespace(ns).Obj()
	j.Annotations = map[string]string{upstreambatchv1.CronJobScheduledTimestampAnnotation: minute.Format(time.RFC3339)}
	j.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(c, batchv1.GroupVersion.WithKind("CronJob"))}
	testEnv.Create(t, j)
	now := clocktesting.NewFakePassiveClock(minute.Add(2 * time.Second))
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return cronjob.Add(mgr, cronjob.Options{Clock: now}) })
	env.Eventually(t, func() string {
		testEnv.Get(t, c)
		if len(c.Status.Active) != 1 || c.Status.Active[0].UID != j.UID || !c.Status.LastScheduleTime.Time.Equal(minute) {
			return fmt.Sprintf("status %+v", c.Status)
		}
		return ""
	})
	eventuallyJobs(t, ns, 1)
}

func TestAJobWhoseTimeHasPassedGoes(t *testing.T) {
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return ttlafterfinished.Add(mgr, ttlafterfinished.Options{}) })
	ns := testEnv.Namespace(t)
	short := builders.MakeJob("short").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) { s.TTLSecondsAfterFinished = new(int32(1)) }).Obj()
	long := builders.MakeJob("long").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) { s.TTLSecondsAfterFinished = new(int32(1000)) }).Obj()
	none := builders.MakeJob("none").Namespace(ns).Obj()
	running := builders.MakeJob("running").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) { s.TTLSecondsAfterFinished = new(int32(0)) }).Obj()
	for _, j := range []*batchv1.Job{short, long, none, running} {
		testEnv.Create(t, j)
	}
	for _, j := range []*batchv1.Job{short, long, none} {
		finish(t, j, upstreambatchv1.JobFailed, time.Now())
	}
	env.Eventually(t, func() string {
		testEnv.Get(t, short)
		if short.DeletionTimestamp == nil {
			return "the Job is still there"
		}
		return ""
	})
	// Its Pods go first.
	if diff := cmp.Diff([]string{metav1.FinalizerDeleteDependents}, short.Finalizers); diff != "" {
		t.Errorf("finalizers (-want +got):\n%s", diff)
	}
	for _, j := range []*batchv1.Job{long, none, running} {
		if testEnv.Get(t, j); j.DeletionTimestamp != nil {
			t.Errorf("Job %s was deleted", j.Name)
		}
	}
}
