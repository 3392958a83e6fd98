// Package job makes Jobs real: it runs Pods until enough of them have succeeded, or
// too many have failed, and counts every Pod exactly once.
//
// It must never start or stop anything on a node, and never count a Pod whose tracking
// finalizer it has not seen. After a crash the next reconciliation finds in the status
// of the Job and in the finalizers of its Pods how far the counting had come
// (tracking.go); the one thing kept in memory, how long to wait after failures, is found
// again in the Pods that are still there. A second reconciler (orphan.go) takes the
// finalizer off Pods that no Job will ever count.
package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "job"

const defaultConcurrency = 5

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many Jobs are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
//
// mgr's client must read its own writes (docs/adr/0002-consistency.md), else Pods
// are created twice.
func Add(mgr ctrl.Manager, o Options) error {
	if err := podcontrol.IndexPods(context.Background(), mgr.GetFieldIndexer(), jobs.Kind.GroupKind()); err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, Name), o)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&batchv1.Job{}, builder.WithPredicates(ownChanges())).
		Watches(&keelsonv1.Pod{}, podHandler(mgr.GetClient())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.concurrency,
			RateLimiter:             backoff.RateLimiter(),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return addOrphans(mgr)
}

// Reconciler brings one Job closer to its end.
type Reconciler struct {
	client      client.Client
	live        client.Reader
	control     podcontrol.Control
	recorder    events.EventRecorder
	clock       clock.PassiveClock
	streaks     *streaks
	concurrency int
}

// NewReconciler returns a Reconciler that reads through c, which must have the index
// that Add makes, and through live where a cache is not enough.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{
		client:      c,
		live:        live,
		control:     podcontrol.For(c, live, recorder),
		recorder:    recorder,
		clock:       o.Clock,
		streaks:     newStreaks(),
		concurrency: o.Concurrency,
	}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	if r.concurrency == 0 {
		r.concurrency = defaultConcurrency
	}
	return r
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	job := &batchv1.Job{}
	if err := r.client.Get(ctx, req.NamespacedName, job); err != nil {
		r.streaks.forget(req.NamespacedName)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := r.syncSelector(ctx, job); err != nil {
		return ctrl.Result{}, err
	}
	if other := jobs.ManagedByOther(job); other != "" {
		klog.FromContext(ctx).V(2).Info("Leaving the Job to another controller", "controller", other)
		return ctrl.Result{}, nil
	}
	if jobs.Finished(job) != nil {
		r.streaks.forget(req.NamespacedName)
		return ctrl.Result{}, r.syncSummary(ctx, job)
	}
	stored := job.DeepCopy()
	jobs.Default(job)
	selector, err := validate(job)
	if err != nil {
		// Nothing to retry: only a change of the spec helps, and it comes as an event.
		recordInvalid(r.recorder, job, err)
		return ctrl.Result{}, nil
	}
	w := &work{
		Reconciler: r, job: job, stored: stored, key: req.NamespacedName,
		owner: podcontrol.Owner{Object: job, Kind: jobs.Kind, Finalizer: upstreambatchv1.JobTrackingFinalizer},
	}
	wait, err := w.run(ctx, selector)
	return ctrl.Result{RequeueAfter: wait}, err
}

// validate returns the selector, or says why no Pod can be made, in words for the user.
func validate(job *batchv1.Job) (labels.Selector, error) {
	selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
	switch mode := *job.Spec.CompletionMode; {
	case err != nil:
		return nil, fmt.Errorf("spec.selector is invalid: %w", err)
	case selector.Empty() || !selector.Matches(labels.Set(job.Spec.Template.Labels)):
		return nil, fmt.Errorf("spec.selector %q does not match spec.template.metadata.labels: every new Pod would be lost at once", selector)
	case mode != upstreambatchv1.NonIndexedCompletion && mode != upstreambatchv1.IndexedCompletion:
		return nil, fmt.Errorf("spec.completionMode %q is unknown: it can be NonIndexed or Indexed", mode)
	case mode == upstreambatchv1.IndexedCompletion && job.Spec.Completions == nil:
		return nil, errors.New("spec.completions is missing: an Indexed Job needs it")
	}
	return selector, nil
}

// syncSelector stores the selector and the labels that follow from the Job's UID.
func (r *Reconciler) syncSelector(ctx context.Context, job *batchv1.Job) error {
	before := job.DeepCopy()
	if job.DeletionTimestamp != nil || !jobs.Select(job) {
		return nil
	}
	err := r.client.Patch(ctx, job, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("failed to write the selector: %w", err)
	}
	return nil
}

// syncSummary puts the columns right where somebody else has ended the Job.
func (r *Reconciler) syncSummary(ctx context.Context, job *batchv1.Job) error {
	after := withStatus(job, job.Status.JobStatus)
	return r.writeStatus(ctx, job, after)
}

// writeStatus stores the status of after, unless it is that of before, which is the
// object as it was read: a list in it is replaced, and counters depend on it.
func (r *Reconciler) writeStatus(ctx context.Context, before, after *batchv1.Job) error {
	if statusEqual(&before.Status, &after.Status) {
		return nil
	}
	err := r.client.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to write status: %w", err)
	}
	return nil
}

// now is the time of this reconciliation, as the API can store it.
func (r *Reconciler) now() time.Time { return r.clock.Now() }
