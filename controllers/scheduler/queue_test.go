package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// next pops within d, or returns "". Inside synctest time passes by itself.
func next(t *testing.T, q *queue, d time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	pod, err := q.pop(ctx)
	if err != nil {
		return ""
	}
	return pod.Pod.Name
}

func expect(t *testing.T, q *queue, d time.Duration, want string) {
	t.Helper()
	if got := next(t, q, d); got != want {
		t.Fatalf("within %s the queue gives %q, want %q", d, got, want)
	}
}

func TestQueueOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(clock.RealClock{})
		q.set(makePod("first").info())
		q.set(makePod("second").info())
		q.set(makePod("urgent").priority(10).info())
		q.set(makePod("withdrawn").info())
		q.remove("uid-withdrawn")
		for _, want := range []string{"urgent", "first", "second", ""} {
			expect(t, q, time.Second, want)
		}
	})
}

func TestQueueWaitsForWhatHelps(t *testing.T) {
	second := 1100 * time.Millisecond
	tests := map[string]struct {
		during func(*queue) // while the Pod is being decided
		after  func(*queue) // after it was refused for lack of room
		within time.Duration
		want   string
	}{
		"nothing happens":                            {within: 4 * time.Minute},
		"nothing happens for five minutes":           {within: flushAfter + time.Second, want: "p"},
		"a pod goes":                                 {after: func(q *queue) { q.happened(podGone) }, within: second, want: "p"},
		"a pod goes during the decision":             {during: func(q *queue) { q.happened(podGone) }, within: second, want: "p"},
		"not before the backoff is over":             {after: func(q *queue) { q.happened(podGone) }, within: 900 * time.Millisecond},
		"a label that does not matter":               {after: func(q *queue) { q.happened(nodeLabelsChanged) }, within: time.Minute},
		"a label that does not matter, meanwhile":    {during: func(q *queue) { q.happened(nodeLabelsChanged) }, within: time.Minute},
		"the pod's status changes":                   {after: func(q *queue) { q.set(makePod("p").phase(corev1.PodPending).info()) }, within: time.Minute},
		"the pod's spec changes":                     {after: func(q *queue) { q.set(changedPod().info()) }, within: second, want: "p"},
		"the pod's spec changes during the decision": {during: func(q *queue) { q.set(changedPod().info()) }, within: second, want: "p"},
		"the pod is deleted":                         {after: func(q *queue) { q.remove("uid-p"); q.happened(podGone) }, within: time.Minute},
		"the pod is deleted during the decision":     {during: func(q *queue) { q.remove("uid-p") }, within: flushAfter + time.Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(clock.RealClock{})
				q.set(makePod("p").info())
				expect(t, q, time.Second, "p")
				if tc.during != nil {
					tc.during(q)
				}
				q.refuse("uid-p", podGone)
				if tc.after != nil {
					tc.after(q)
				}
				expect(t, q, tc.within, tc.want)
			})
		})
	}
}

func changedPod() *podMaker {
	p := makePod("p")
	p.Generation = 2
	return p
}

func TestQueueBacksOffAfterFailedBindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(clock.RealClock{})
		q.set(makePod("p").info())
		expect(t, q, time.Second, "p")
		for _, seconds := range []int{1, 2, 4, 8, 10, 10, 10} {
			want := time.Duration(seconds) * time.Second
			start := time.Now()
			q.retry("uid-p")
			expect(t, q, time.Minute, "p")
			if waited := time.Since(start); waited != want {
				t.Fatalf("waited %s, want %s", waited, want)
			}
		}
	})
}

func TestEventsAmongPods(t *testing.T) {
	s := &scheduler{name: "default-scheduler", nodes: newNodeCache(), queue: newQueue(clock.RealClock{})}
	s.nodes.setNode(makeNode("a").obj())
	queued := func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		_, ok := s.queue.entries["uid-p"]
		return ok
	}
	counted := func() int64 { return loads(s.nodes)["a"].Pods }

	foreign := makePod("p")
	foreign.Spec.SchedulerName = "other"
	steps := []struct {
		name       string
		pod        *podMaker
		wantQueued bool
		wantLoad   int64
	}{
		{"another scheduler's", foreign, false, 0},
		{"to place", makePod("p"), true, 0},
		{"being deleted unbound", makePod("p").deleting(), false, 0},
		{"bound", makePod("p").on("a"), false, 1},
		{"being deleted but bound", makePod("p").on("a").deleting(), false, 1},
		{"ended", makePod("p").on("a").phase(corev1.PodSucceeded), false, 0},
	}
	for _, step := range steps {
		s.podSeen(nil, step.pod.obj())
		if queued() != step.wantQueued || counted() != step.wantLoad {
			t.Errorf("%s: queued %t, counted %d; want %t, %d", step.name, queued(), counted(), step.wantQueued, step.wantLoad)
		}
	}
}
