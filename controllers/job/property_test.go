package job

import (
	"testing"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// TestEveryPodIsCountedOnce kills the process after each number of writes, at each step
// of a Job whose Pods succeed and fail, and starts it again: the counters are those of
// an undisturbed run.
func TestEveryPodIsCountedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		completions := rapid.Int32Range(1, 8).Draw(t, "completions")
		b := makeJob(completions, rapid.Int32Range(1, 5).Draw(t, "parallelism")).BackoffLimit(1000)
		indexed := rapid.Bool().Draw(t, "indexed")
		if indexed {
			b.Indexed()
			if rapid.Bool().Draw(t, "perIndex") {
				b.Spec(func(s *upstreambatchv1.JobSpec) { s.BackoffLimitPerIndex = new(int32(1000)) })
			}
		}
		w := newWorld(t, b.Obj())
		var succeeded, failed int32
		for step := range 40 {
			w.mayDie(rapid.IntRange(-1, 12).Draw(t, "writes"))
			if jobs.Finished(w.job()) != nil {
				break
			}
			w.pass(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
			active := w.active()
			if len(active) == 0 {
				continue
			}
			pod := active[rapid.IntRange(0, len(active)-1).Draw(t, "pod")]
			if !jobs.IsTracked(pod) {
				continue
			}
			if step > 20 || rapid.Bool().Draw(t, "succeeds") {
				w.end(pod, corev1.PodSucceeded, 0)
				succeeded++
			} else {
				w.end(pod, corev1.PodFailed, 1)
				failed++
			}
		}
		w.restart()
		w.finish(t, &succeeded)
		status := w.job().Status
		if end := jobs.Finished(w.job()); end == nil || end.Type != upstreambatchv1.JobComplete {
			t.Fatalf("the Job did not complete: %+v", status)
		}
		if status.Failed != failed {
			t.Errorf("status.failed %d, but %d Pods failed", status.Failed, failed)
		}
		// Two Pods of one index may both succeed; a Job of work is given as much as it asked for.
		if indexed && status.Succeeded != completions || !indexed && status.Succeeded != succeeded {
			t.Errorf("status.succeeded %d of %d, but %d Pods succeeded", status.Succeeded, completions, succeeded)
		}
		if status.Active != 0 || len(status.UncountedTerminatedPods.Failed)+len(status.UncountedTerminatedPods.Succeeded) != 0 {
			t.Errorf("status %+v", status)
		}
		for _, pod := range w.pods() {
			if jobs.IsTracked(pod) {
				t.Errorf("Pod %s still has the finalizer", pod.Name)
			}
		}
	})
}

// mayDie reconciles in a process that is killed after so many writes; negative: never.
func (w *world) mayDie(writes int) {
	w.writesLeft = writes
	_, err := w.reconcile()
	if writes < 0 && err != nil {
		w.t.Fatalf("reconcile: %v", err)
	}
	if writes >= 0 {
		w.restart()
	}
}

// finish lets what is left of the Job succeed.
func (w *world) finish(t *rapid.T, succeeded *int32) {
	for range 100 {
		w.settle()
		if jobs.Finished(w.job()) != nil {
			return
		}
		w.pass(longestBackoff)
		w.settle()
		if active := w.active(); len(active) > 0 {
			w.end(active[0], corev1.PodSucceeded, 0)
			*succeeded++
		}
	}
	t.Fatalf("the Job does not end: %+v", w.job().Status)
}

// TestTwoManagersCountEveryPodOnce lets two processes work on one Job, each with a cache
// that stands still for a while.
func TestTwoManagersCountEveryPodOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, makeJob(5, 3).BackoffLimit(1000).Obj())
		managers := []*Reconciler{staleReconciler(w), staleReconciler(w)}
		var succeeded, failed int32
		for range 25 {
			r := managers[rapid.IntRange(0, 1).Draw(t, "manager")]
			// The cache of each kind catches up on its own.
			r.client.(*staleClient).catchUp(rapid.Bool().Draw(t, "sees the Job"), rapid.Bool().Draw(t, "sees Pods"))
			w.r = r
			_, _ = w.reconcile()
			w.pass(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
			for _, pod := range w.active() {
				if !jobs.IsTracked(pod) || jobs.Finished(w.job()) != nil || rapid.Bool().Draw(t, "runs on") {
					continue
				}
				if rapid.Bool().Draw(t, "succeeds") {
					w.end(pod, corev1.PodSucceeded, 0)
					succeeded++
				} else {
					w.end(pod, corev1.PodFailed, 1)
					failed++
				}
				break
			}
		}
		w.restart()
		w.finish(t, &succeeded)
		status := w.job().Status
		// A Pod too many may end when the Job has finished: it keeps the finalizer, for the
		// reconciler of orphans.
		for _, pod := range w.pods() {
			switch {
			case !jobs.IsTracked(pod):
			case pod.Status.Phase == corev1.PodSucceeded:
				succeeded--
			case pod.Status.Phase == corev1.PodFailed:
				failed--
			}
		}
		if status.Failed != failed || status.Succeeded != succeeded {
			t.Errorf("status: %d succeeded, %d failed; but %d and %d Pods did", status.Succeeded, status.Failed, succeeded, failed)
		}
	})
}
