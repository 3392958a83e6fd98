package cronjob

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// noon is a full hour; everything happens around it.
var noon = time.Date(2026, 5, 19, 12, 0, 0, 0, time.UTC)

// makeCronJob was made an hour before noon and runs at every full hour.
func makeCronJob(change func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "tick", UID: "cron"}}
	c.CreationTimestamp.Time = noon.Add(-30 * time.Minute)
	c.Spec.Schedule = "0 * * * ?"
	if change != nil {
		change(c)
	}
	return c
}

func makeChild(name, uid string, change func(*batchv1.Job)) *batchv1.Job {
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid)}}
	if change != nil {
		change(j)
	}
	return j
}

func ended(conditionType upstreambatchv1.JobConditionType, at time.Time) func(*batchv1.Job) {
	return func(j *batchv1.Job) {
		when := metav1.NewTime(at)
		j.Status.StartTime = &when
		if conditionType == upstreambatchv1.JobComplete {
			j.Status.CompletionTime = &when
		}
		j.Status.Conditions = []upstreambatchv1.JobCondition{{Type: conditionType, Status: corev1.ConditionTrue, LastTransitionTime: when}}
	}
}

func TestPlanStart(t *testing.T) {
	running := func(c *batchv1.CronJob) {
		c.Status.Active = []corev1.ObjectReference{{Name: "old", UID: "old"}}
		c.Status.LastScheduleTime = new(metav1.NewTime(noon.Add(-time.Hour)))
	}
	for name, tc := range map[string]struct {
		change func(*batchv1.CronJob)
		// now is relative to noon.
		now         time.Duration
		wantAt      *time.Time
		wantReplace int
		wantWait    time.Duration
		wantReason  string
	}{
		"before the first time": {now: -time.Minute, wantWait: time.Minute + skew},
		"the time has come":     {now: time.Second, wantAt: &noon},
		"on the dot":            {wantAt: &noon},
		"it was used": {
			func(c *batchv1.CronJob) { c.Status.LastScheduleTime = new(metav1.NewTime(noon)) }, time.Second, nil, 0, time.Hour - time.Second + skew, "",
		},
		"its Job runs already": {
			func(c *batchv1.CronJob) {
				c.Status.Active = []corev1.ObjectReference{{Name: jobName("tick", noon)}}
			}, time.Second, nil, 0, time.Hour - time.Second + skew, "",
		},
		"too late for the deadline": {
			func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = new(int64(10)) }, 20 * time.Second, nil, 0, time.Hour - 20*time.Second + skew, "",
		},
		"in time for the deadline": {
			func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = new(int64(30)) }, 20 * time.Second, &noon, 0, 0, "",
		},
		"suspended": {change: func(c *batchv1.CronJob) { c.Spec.Suspend = new(true) }},
		"being deleted": {change: func(c *batchv1.CronJob) {
			c.DeletionTimestamp = new(metav1.NewTime(noon))
		}},
		"another still runs, and may": {change: running, wantAt: &noon},
		"another still runs, which forbids it": {
			func(c *batchv1.CronJob) { running(c); c.Spec.ConcurrencyPolicy = upstreambatchv1.ForbidConcurrent },
			time.Second, nil, 0, time.Hour - time.Second + skew, "JobAlreadyActive",
		},
		"another still runs, and is replaced": {
			func(c *batchv1.CronJob) { running(c); c.Spec.ConcurrencyPolicy = upstreambatchv1.ReplaceConcurrent },
			time.Second, &noon, 1, 0, "",
		},
		"a zone that does not exist":     {change: func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Nowhere/Land") }, wantReason: "UnknownTimeZone"},
		"a schedule that makes no sense": {change: func(c *batchv1.CronJob) { c.Spec.Schedule = "every day" }, wantReason: "UnparseableSchedule"},
		"a schedule that would panic":    {change: func(c *batchv1.CronJob) { c.Spec.Schedule = "TZ=0" }, wantReason: "UnparseableSchedule"},
		"a day that never comes":         {change: func(c *batchv1.CronJob) { c.Spec.Schedule = "59 23 31 2 *" }, wantReason: "InvalidSchedule"},
		"a zone moves the time": {
			func(c *batchv1.CronJob) { c.Spec.Schedule, c.Spec.TimeZone = "0 14 * * *", new("Europe/Berlin") }, time.Second, &noon, 0, 0, "",
		},
		"a weekend long nobody looked: the last time counts, with a warning": {
			func(c *batchv1.CronJob) {
				c.Spec.Schedule = "*/10 * * * *"
				c.Status.LastScheduleTime = new(metav1.NewTime(noon.Add(-60 * time.Hour)))
			}, time.Second, &noon, 0, 0, "TooManyMissedTimes",
		},
		"a night long: no warning": {
			func(c *batchv1.CronJob) {
				c.Status.LastScheduleTime = new(metav1.NewTime(noon.Add(-12 * time.Hour)))
			}, time.Second, &noon, 0, 0, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := planStart(makeCronJob(tc.change), noon.Add(tc.now))
			if diff := cmp.Diff(tc.wantAt, got.at); diff != "" {
				t.Errorf("time (-want +got):\n%s", diff)
			}
			reason := ""
			for _, n := range got.events {
				reason += n.reason
			}
			if len(got.replace) != tc.wantReplace || got.wait != tc.wantWait || reason != tc.wantReason {
				t.Errorf("replaces %d, waits %s, says %q", len(got.replace), got.wait, reason)
			}
		})
	}
}

// Uneven schedules are estimated, but the time that is found is exact.
func TestTheLastMissedTimeIsExact(t *testing.T) {
	for schedule, want := range map[string]time.Time{
		"30 6-16/4 * * 1-5": time.Date(2026, 5, 19, 10, 30, 0, 0, time.UTC),
		"0 0 1 * *":         time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC),
		"@every 1h":         noon.Add(-30 * time.Minute),
	} {
		c := makeCronJob(func(c *batchv1.CronJob) {
			c.Spec.Schedule = schedule
			c.CreationTimestamp.Time = noon.Add(-90*24*time.Hour - 30*time.Minute)
		})
		got := planStart(c, noon)
		if got.at == nil || !got.at.Equal(want) {
			t.Errorf("%s: %v, want %s", schedule, got.at, want)
		}
	}
}

func TestObserve(t *testing.T) {
	ours := makeChild(jobName("tick", noon), "new", func(j *batchv1.Job) {
		j.Annotations = map[string]string{upstreambatchv1.CronJobScheduledTimestampAnnotation: noon.Format(time.RFC3339)}
	})
	c := makeCronJob(func(c *batchv1.CronJob) {
		c.Status.Active = []corev1.ObjectReference{{Name: "a", UID: "a"}, {Name: "b", UID: "b"}, {Name: "gone", UID: "gone"}}
	})
	got := observe(c, []*batchv1.Job{
		makeChild("a", "a", nil), makeChild("b", "b", ended(upstreambatchv1.JobComplete, noon)),
		makeChild("by-hand", "h", nil), makeChild("early", "e", ended(upstreambatchv1.JobComplete, noon.Add(-time.Hour))), ours,
	})
	want := observed{
		active:   []corev1.ObjectReference{{Name: "a", UID: "a"}, refTo(ours)},
		vanished: []corev1.ObjectReference{{Name: "gone", UID: "gone"}},
		// A Job that was made just before the process died.
		lastSchedule:   new(metav1.NewTime(noon)),
		lastSuccessful: new(metav1.NewTime(noon)),
		events: []note{
			normal("SawCompletedJob", "Saw completed job: b, condition: Complete"),
			warning("UnexpectedJob", "Saw a job that the controller did not create or forgot: by-hand"),
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(observed{}, note{}), cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPlanHistory(t *testing.T) {
	var children []*batchv1.Job
	for i := range 5 {
		at := noon.Add(time.Duration(i) * time.Minute)
		children = append(children,
			makeChild(fmt.Sprintf("good-%d", i), "", ended(upstreambatchv1.JobComplete, at)),
			makeChild(fmt.Sprintf("bad-%d", i), "", ended(upstreambatchv1.JobFailed, at)))
	}
	children = append(children, makeChild("runs", "", nil))
	for name, tc := range map[string]struct {
		good, bad *int32
		want      []string
	}{
		"the defaults":         {nil, nil, []string{"good-0", "good-1", "bad-0", "bad-1", "bad-2", "bad-3"}},
		"nothing is kept":      {new(int32(0)), new(int32(5)), []string{"good-0", "good-1", "good-2", "good-3", "good-4"}},
		"more than there were": {new(int32(9)), new(int32(9)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := makeCronJob(func(c *batchv1.CronJob) {
				c.Spec.SuccessfulJobsHistoryLimit, c.Spec.FailedJobsHistoryLimit = tc.good, tc.bad
			})
			var got []string
			for _, j := range planHistory(c, children) {
				got = append(got, j.Name)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
