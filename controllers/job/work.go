package job

import (
	"context"
	"fmt"
	"slices"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// work is one reconciliation of one Job that has not finished.
type work struct {
	*Reconciler
	key types.NamespacedName
	// job has its defaults; stored is as the API server has it, and follows what is
	// written to its status.
	job, stored *batchv1.Job
	owner       podcontrol.Owner

	snapshot *snapshot
	status   upstreambatchv1.JobStatus
	// end is how the Job ends, nil while it goes on.
	end *verdict
	// suspension is the event about being suspended or resumed; "" for none.
	suspension string
}

// run gathers, decides and applies. Whatever part fails, what was done before it is
// visible in the API, and the next reconciliation goes on from there.
func (w *work) run(ctx context.Context, selector labels.Selector) (wait time.Duration, err error) {
	pods, err := w.claimPods(ctx, selector)
	if err != nil {
		return 0, err
	}
	before, known := w.streaks.get(w.key, w.job.UID)
	s := observe(w.job, pods, before, known, w.now())
	w.snapshot, w.status = s, startStatus(s)
	if err := w.confirm(ctx, slices.Concat(s.newSucceeded, s.newFailed)); err != nil {
		return 0, err
	}

	w.end, wait = judge(s, w.status.StartTime)
	plan := planPods(s, w.end)
	done := w.apply(ctx, s, w.owner, plan)
	w.settle(done)
	if err := w.countPods(ctx); err != nil {
		return 0, fmt.Errorf("failed to count Pods: %w", err)
	}
	if w.end != nil {
		wait = 0
	}
	return shorter(wait, plan.Wait), done.err
}

// claimPods adopts and releases Pods, and returns those of the Job.
func (w *work) claimPods(ctx context.Context, selector labels.Selector) ([]*keelsonv1.Pod, error) {
	pods, err := podcontrol.ListPods(ctx, w.client, w.owner)
	if err != nil {
		return nil, err
	}
	claims := podcontrol.PlanClaims(w.owner, selector, pods)
	if len(claims.Adopt)+len(claims.Release) == 0 {
		return claims.Mine, nil
	}
	if err := w.control.Claim(ctx, w.owner, claims); err != nil {
		return nil, err
	}
	// Again, for the finalizers that adoption has set.
	if pods, err = podcontrol.ListPods(ctx, w.client, w.owner); err != nil {
		return nil, err
	}
	return podcontrol.PlanClaims(w.owner, selector, pods).Mine, nil
}

// settle completes the verdict by what became of the plan, and writes the counts of
// Pods and the condition Suspended into the status.
func (w *work) settle(done outcome) {
	s := w.snapshot
	setCounts(s, &w.status, done)
	switch {
	case w.end != nil:
		if int(done.deleted) < len(s.active) {
			// Pods are left that run: it cannot end before they are deleted.
			w.end = nil
		}
	case reachedCompletions(s, w.status.Active):
		w.end = newCondition(upstreambatchv1.JobSuccessCriteriaMet, upstreambatchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods", s.now)
	case !s.deleting():
		w.suspension = setSuspended(s, &w.status)
	}
}

// countPods does the three steps of tracking.go, and ends the Job when all is counted.
func (w *work) countPods(ctx context.Context) error {
	s := w.snapshot
	tracked := s.trackedUIDs()
	count(&w.status, tracked)
	plan := planTracking(s, &w.status, w.end)
	if err := w.confirm(ctx, added(plan.Counted, s.newSucceeded, s.newFailed)); err != nil {
		return err
	}
	var final *verdict
	if w.end != nil {
		final = setTarget(&w.status, w.end, s.now)
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	w.streaks.set(w.key, w.job.UID, s.streak)
	if w.suspension != "" {
		recordSuspension(w.recorder, w.stored, w.suspension)
	}

	released, releaseErr := w.releaseAll(ctx, plan.Release)
	tracked.Delete(released...)
	count(&w.status, tracked)
	finished := releaseErr == nil && final != nil && !plan.Full && setFinished(&w.status, final)
	if err := w.flush(ctx); err != nil {
		return err
	}
	if finished {
		w.streaks.forget(w.key)
		recordFinished(w.recorder, w.stored, final)
	}
	return releaseErr
}

// flush stores the status as it is now.
func (w *work) flush(ctx context.Context) error {
	after := withStatus(w.stored, w.status)
	if err := w.writeStatus(ctx, w.stored, after); err != nil {
		return err
	}
	w.stored = after
	return nil
}

// added returns the Pods of all that are in none of the others.
func added(all []*keelsonv1.Pod, others ...[]*keelsonv1.Pod) []*keelsonv1.Pod {
	known := map[types.UID]bool{}
	for _, pod := range slices.Concat(others...) {
		known[pod.UID] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(pod *keelsonv1.Pod) bool { return known[pod.UID] })
}
