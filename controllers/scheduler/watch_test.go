package scheduler

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
)

func TestEventsAmongPods(t *testing.T) {
	s := newIdleScheduler()
	s.cache.SetNode(schedulertest.MakeNode("a").Obj())
	queued := func() bool { return s.queue.Pod("uid-p") != nil }
	counted := func() int64 {
		s.cache.Update(s.snapshot)
		return int64(len(s.snapshot.Node("a").Pods))
	}

	foreign := schedulertest.MakePod("p")
	foreign.Change(func(p *keelsonv1.Pod) { p.Spec.SchedulerName = "other" })
	steps := []struct {
		name       string
		pod        *schedulertest.Pod
		wantQueued bool
		wantLoad   int64
	}{
		{"another scheduler's", foreign, false, 0},
		{"to place", schedulertest.MakePod("p"), true, 0},
		{"being deleted unbound", schedulertest.MakePod("p").Deleting(), false, 0},
		{"bound", schedulertest.MakePod("p").On("a"), false, 1},
		{"being deleted but bound", schedulertest.MakePod("p").On("a").Deleting(), false, 1},
		{"ended", schedulertest.MakePod("p").On("a").Phase(corev1.PodSucceeded), false, 0},
	}
	for _, step := range steps {
		s.podSeen(nil, step.pod.Obj())
		if queued() != step.wantQueued || counted() != step.wantLoad {
			t.Errorf("%s: queued %t, counted %d; want %t, %d", step.name, queued(), counted(), step.wantQueued, step.wantLoad)
		}
	}
}
