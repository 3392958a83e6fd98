package cronjob

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// delays remembers when what was queued is due.
type delays struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	all []time.Duration
}

func (d *delays) Add(reconcile.Request) { d.all = append(d.all, 0) }

// AddAfter adds at once what is due already, as the real queue does.
func (d *delays) AddAfter(_ reconcile.Request, wait time.Duration) {
	d.all = append(d.all, max(0, wait))
}

// TestAChangeIsLookedAtInTime: what a new schedule would have had in the past is not
// caught up with; every other change counts at once.
func TestAChangeIsLookedAtInTime(t *testing.T) {
	last, at := time.Date(2026, 5, 19, 9, 59, 59, 0, time.UTC), func(hour, minute, second int) time.Time {
		return time.Date(2026, 5, 19, hour, minute, second, 0, time.UTC)
	}
	for name, tc := range map[string]struct {
		from, to string
		now      time.Time
		change   func(*batchv1.CronJob)
		want     []time.Duration
	}{
		"a template": {from: "30 * * * *", to: "30 * * * *", now: at(10, 0, 0), want: []time.Duration{0},
			change: func(c *batchv1.CronJob) { c.Spec.JobTemplate.Labels = map[string]string{"a": "b"} }},
		"nothing but labels": {from: "30 * * * *", to: "30 * * * *", now: at(10, 0, 0),
			change: func(c *batchv1.CronJob) { c.Generation, c.Labels = 1, map[string]string{"a": "b"} }},
		"a closer schedule":     {from: "30 * * * *", to: "*/1 * * * *", now: last, want: []time.Duration{time.Second + skew}},
		"longer intervals":      {from: "@every 1m", to: "@every 3m", now: at(10, 0, 59), want: []time.Duration{2*time.Minute + skew}},
		"shorter intervals":     {from: "@every 3m", to: "@every 1m", now: at(10, 0, 58), want: []time.Duration{time.Second + skew}},
		"a time that is past":   {from: "0 0 * * *", to: "0 12 * * *", now: at(13, 0, 0), want: []time.Duration{23*time.Hour + skew}},
		"a zone":                {from: "0 12 * * *", to: "0 12 * * *", now: at(10, 0, 0), want: []time.Duration{30*time.Minute + skew}, change: func(c *batchv1.CronJob) { c.Spec.TimeZone = new("Etc/GMT-1"); c.Spec.Schedule = "30 11 * * *" }},
		"what makes no sense":   {from: "0 12 * * *", to: "often", now: at(10, 0, 0), want: []time.Duration{0}},
		"a day that is no more": {from: "0 12 * * *", to: "0 12 31 2 *", now: at(10, 0, 0), want: []time.Duration{0}},
	} {
		t.Run(name, func(t *testing.T) {
			before := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Name: "c", Generation: 1}}
			before.Spec.Schedule, before.Status.LastScheduleTime = tc.from, &metav1.Time{Time: last}
			after := before.DeepCopy()
			after.Generation, after.Spec.Schedule = 2, tc.to
			if tc.change != nil {
				tc.change(after)
			}
			var queued delays
			ownHandler(clocktesting.NewFakePassiveClock(tc.now)).Update(t.Context(), event.UpdateEvent{ObjectOld: before, ObjectNew: after}, &queued)
			if len(queued.all) != len(tc.want) || len(tc.want) > 0 && queued.all[0] != tc.want[0] {
				t.Errorf("looked at after %v, want %v", queued.all, tc.want)
			}
		})
	}
}
