package daemonset

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/history"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// defaultHistoryLimit is spec.revisionHistoryLimit where admission did not write it.
const defaultHistoryLimit = 10

// apply executes the plan, and deletes old revisions when it succeeded.
func (r *Reconciler) apply(ctx context.Context, s *scope) error {
	r.tellFailures(ctx, s)
	hash := s.history.HashOf(s.history.Latest)
	_, createErr := slowstart.Run(ctx, len(s.plan.create), func(ctx context.Context, i int) error {
		return r.pods.Create(ctx, s.owner.Owner, renderPod(s.owner.Owner, s.owner.Template, hash, s.plan.create[i]))
	})
	if errors.Is(createErr, podcontrol.ErrNamespaceTerminating) {
		// The DaemonSet goes too.
		createErr = nil
	}
	removeErr := slowstart.All(ctx, len(s.plan.remove), func(ctx context.Context, i int) error {
		return r.pods.Delete(ctx, s.owner.Owner, s.plan.remove[i])
	})
	if err := errors.Join(createErr, removeErr); err != nil {
		return err
	}
	return r.history.Delete(ctx, excess(s.ds, s.history, s.in.places))
}

// tellFailures says which Pods are replaced because they ended, and starts or doubles
// the waiting time of the nodes on which they failed.
func (r *Reconciler) tellFailures(ctx context.Context, s *scope) {
	for _, f := range s.plan.failed {
		r.failures.Next(failureKey(s.ds, f.node), r.clock.Now())
		recordFailed(r.recorder, s.ds, f)
	}
	for _, f := range s.plan.succeeded {
		recordSucceeded(r.recorder, s.ds, f)
	}
	for _, node := range s.plan.held {
		delay := r.failures.Get(failureKey(s.ds, node))
		s.wait = sooner(s.wait, delay)
		klog.FromContext(ctx).V(4).Info("Waiting before a failed Pod is replaced", "node", node, "delay", delay)
	}
}

// excess returns the revisions beyond the history limit. Those that Pods still run
// count, and stay.
func excess(ds *appsv1.DaemonSet, h *history.History, places []place) []*appsv1.ControllerRevision {
	inUse := map[string]bool{}
	for _, place := range places {
		for _, pod := range place.pods {
			inUse[pod.Labels[hashLabel]] = true
		}
	}
	live := func(revision *appsv1.ControllerRevision) bool { return inUse[h.HashOf(revision)] }
	limit := defaultHistoryLimit
	if ds.Spec.RevisionHistoryLimit != nil {
		limit = int(*ds.Spec.RevisionHistoryLimit)
	}
	for _, revision := range h.Old() {
		if limit > 0 && live(revision) {
			limit--
		}
	}
	return history.Excess(h.Old(), live, limit)
}
