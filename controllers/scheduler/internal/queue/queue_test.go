package queue

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/plugins"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// next pops within d, or returns "". Inside synctest time passes by itself.
func next(t *testing.T, q *Queue, d time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	pod, err := q.Pop(ctx)
	if err != nil {
		return ""
	}
	return pod.Pod.Name
}

func newTestQueue() *Queue {
	return New(Options{Clock: clock.RealClock{}, InitialBackoff: time.Second, MaxBackoff: 10 * time.Second})
}

// wakes is a plug-in for which every event of some kinds helps.
type wakes plugins.EventKind

func (w wakes) Events() plugins.EventKind               { return plugins.EventKind(w) }
func (wakes) Helps(*state.PodInfo, *plugins.Event) bool { return true }

func expect(t *testing.T, q *Queue, d time.Duration, want string) {
	t.Helper()
	if got := next(t, q, d); got != want {
		t.Fatalf("within %s the queue gives %q, want %q", d, got, want)
	}
}

func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTestQueue()
		q.Set(schedulertest.MakePod("first").Info())
		q.Set(schedulertest.MakePod("second").Info())
		q.Set(schedulertest.MakePod("urgent").Priority(10).Info())
		q.Set(schedulertest.MakePod("withdrawn").Info())
		q.Remove("uid-withdrawn")
		for _, want := range []string{"urgent", "first", "second", ""} {
			expect(t, q, time.Second, want)
		}
	})
}

func TestQueueWaitsForWhatHelps(t *testing.T) {
	second := 1100 * time.Millisecond
	tests := map[string]struct {
		during func(*Queue) // while the Pod is being decided
		after  func(*Queue) // after it was refused for lack of room
		within time.Duration
		want   string
	}{
		"nothing happens":                            {within: 4 * time.Minute},
		"nothing happens for five minutes":           {within: FlushAfter + time.Second, want: "p"},
		"a pod goes":                                 {after: func(q *Queue) { q.Happened(&plugins.Event{Kind: plugins.PodGone}) }, within: second, want: "p"},
		"a pod goes during the decision":             {during: func(q *Queue) { q.Happened(&plugins.Event{Kind: plugins.PodGone}) }, within: second, want: "p"},
		"not before the backoff is over":             {after: func(q *Queue) { q.Happened(&plugins.Event{Kind: plugins.PodGone}) }, within: 900 * time.Millisecond},
		"a label that does not matter":               {after: func(q *Queue) { q.Happened(&plugins.Event{Kind: plugins.NodeLabels}) }, within: time.Minute},
		"a label that does not matter, meanwhile":    {during: func(q *Queue) { q.Happened(&plugins.Event{Kind: plugins.NodeLabels}) }, within: time.Minute},
		"the pod's status changes":                   {after: func(q *Queue) { q.Set(schedulertest.MakePod("p").Phase(corev1.PodPending).Info()) }, within: time.Minute},
		"the pod's spec changes":                     {after: func(q *Queue) { q.Set(changedPod().Info()) }, within: second, want: "p"},
		"the pod's spec changes during the decision": {during: func(q *Queue) { q.Set(changedPod().Info()) }, within: second, want: "p"},
		"the pod is deleted":                         {after: func(q *Queue) { q.Remove("uid-p"); q.Happened(&plugins.Event{Kind: plugins.PodGone}) }, within: time.Minute},
		"the pod is deleted during the decision":     {during: func(q *Queue) { q.Remove("uid-p") }, within: FlushAfter + time.Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newTestQueue()
				q.Set(schedulertest.MakePod("p").Info())
				expect(t, q, time.Second, "p")
				if tc.during != nil {
					tc.during(q)
				}
				q.Refuse("uid-p", []plugins.Waker{wakes(plugins.PodGone)})
				if tc.after != nil {
					tc.after(q)
				}
				expect(t, q, tc.within, tc.want)
			})
		})
	}
}

func changedPod() *schedulertest.Pod {
	return schedulertest.MakePod("p").Generation(2)
}

func TestQueueBacksOffAfterFailedBindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTestQueue()
		q.Set(schedulertest.MakePod("p").Info())
		expect(t, q, time.Second, "p")
		for _, seconds := range []int{1, 2, 4, 8, 10, 10, 10} {
			want := time.Duration(seconds) * time.Second
			start := time.Now()
			q.Retry("uid-p")
			expect(t, q, time.Minute, "p")
			if waited := time.Since(start); waited != want {
				t.Fatalf("waited %s, want %s", waited, want)
			}
		}
	})
}
