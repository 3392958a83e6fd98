package statefulset

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/history"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/slowstart"
)

// apply executes the plan step by step; a step that fails is the last. Old revisions
// are deleted in any case.
func (r *Reconciler) apply(ctx context.Context, s *scope) error {
	if s.history == nil {
		return nil
	}
	return errors.Join(r.applyPlan(ctx, s), r.history.Delete(ctx, excess(s)))
}

func (r *Reconciler) applyPlan(ctx context.Context, s *scope) error {
	remove := func(pods []*keelsonv1.Pod) error {
		_, err := slowstart.Run(ctx, len(pods), func(ctx context.Context, i int) error { return r.remove(ctx, s, pods[i]) })
		return err
	}
	_, createErr := slowstart.Run(ctx, len(s.plan.create), func(ctx context.Context, i int) error { return r.create(ctx, s, s.plan.create[i]) })
	if errors.Is(createErr, podcontrol.ErrNamespaceTerminating) {
		// The StatefulSet goes too.
		return nil
	}
	_, fixErr := slowstart.Run(ctx, len(s.plan.fix), func(ctx context.Context, i int) error { return r.fix(ctx, s, s.plan.fix[i]) })
	if err := errors.Join(remove(s.plan.ended), createErr, fixErr); err != nil {
		return err
	}
	if err := remove(s.plan.condemned); err != nil {
		return err
	}
	return remove(s.plan.updated)
}

func (r *Reconciler) create(ctx context.Context, s *scope, at slot) error {
	template, err := s.template(at.revision)
	if err != nil {
		return err
	}
	pod := renderPod(s.owner, template, s.set.Spec.ServiceName, at.revision, at.ordinal)
	err = r.pods.Create(ctx, s.owner, pod)
	switch {
	case err == nil:
		recordDone(r.recorder, s.set, pod, verbCreate)
	case errors.Is(err, podcontrol.ErrNamespaceTerminating):
	case apierrors.IsAlreadyExists(err):
		// Somebody else's Pod has the name, or ours has not reached the cache: as
		// upstream, no event tells of either. The end of a stranger wakes us (watch.go).
	default:
		recordFailed(r.recorder, s.set, pod, verbCreate, err)
	}
	return err
}

func (r *Reconciler) remove(ctx context.Context, s *scope, pod *keelsonv1.Pod) error {
	if err := r.pods.Delete(ctx, s.owner, pod); err != nil {
		recordFailed(r.recorder, s.set, pod, verbDelete, err)
		return err
	}
	recordDone(r.recorder, s.set, pod, verbDelete)
	return nil
}

// fix writes the labels of identity.
func (r *Reconciler) fix(ctx context.Context, s *scope, at slot) error {
	fixed := at.pod.DeepCopy()
	identify(fixed, at.ordinal)
	err := r.client.Patch(ctx, fixed, client.MergeFrom(at.pod))
	if client.IgnoreNotFound(err) != nil {
		recordFailed(r.recorder, s.set, at.pod, verbUpdate, err)
		return fmt.Errorf("failed to label Pod %s: %w", klog.KObj(at.pod), err)
	}
	recordDone(r.recorder, s.set, at.pod, verbUpdate)
	return nil
}

// excess returns the revisions beyond the history limit that neither a Pod nor the
// status needs.
func excess(s *scope) []*appsv1.ControllerRevision {
	live := map[string]bool{s.names.current: true, s.names.update: true}
	for _, pod := range s.pods {
		live[revisionOf(pod)] = true
	}
	return history.Excess(s.history.All(), func(r *appsv1.ControllerRevision) bool { return live[r.Name] }, s.spec.historyLimit)
}
