// Package cronjob makes CronJobs real: it makes a Job at each time of the schedule, and
// deletes finished Jobs beyond the history limits.
//
// It must never touch the Pods of a Job. It keeps no memory: a Job's name holds the time
// that it was made for, so it cannot be made twice, and after a crash between the Job
// and the status the Job is found again by that name. Times that passed while nobody
// looked follow startingDeadlineSeconds; the last of them is caught up with.
package cronjob

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "cronjob"

const (
	defaultConcurrency = 5
	ownerIndex         = "cronjob.controller"
)

var kind = batchv1.GroupVersion.WithKind("CronJob")

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many CronJobs are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	if err := IndexJobs(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, Name), o)
	concurrency := o.Concurrency
	if concurrency == 0 {
		concurrency = defaultConcurrency
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		Watches(&batchv1.CronJob{}, ownHandler(r.clock)).
		Watches(&batchv1.Job{}, jobHandler()).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency, RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// IndexJobs lets a Reconciler find the Jobs of one CronJob.
func IndexJobs(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &batchv1.Job{}, ownerIndex, func(obj client.Object) []string {
		if ref := ownerOf(obj); ref != nil {
			return []string{string(ref.UID)}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("failed to index Jobs by their CronJob: %w", err)
	}
	return nil
}

// ownerOf returns the reference to the CronJob that controls job; nil when none does.
func ownerOf(job client.Object) *metav1.OwnerReference {
	ref := metav1.GetControllerOfNoCopy(job)
	if ref == nil || !podcontrol.IsKind(ref, kind.GroupKind()) {
		return nil
	}
	return ref
}

// Reconciler makes the Job that one CronJob is due.
type Reconciler struct {
	client   client.Client
	live     client.Reader
	recorder events.EventRecorder
	clock    clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads through c, which must have the index of
// IndexJobs, and through live before it believes that a Job is gone.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{client: c, live: live, recorder: recorder, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	return r
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	stored := &batchv1.CronJob{}
	if err := r.client.Get(ctx, req.NamespacedName, stored); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	children, err := r.children(ctx, stored)
	if err != nil {
		return ctrl.Result{}, err
	}
	now, cronJob := r.clock.Now(), stored.DeepCopy()
	if err := r.syncActive(ctx, cronJob, children); err != nil {
		return ctrl.Result{}, err
	}
	historyErr := r.syncHistory(ctx, cronJob, children)
	wait, startErr := r.syncStart(ctx, cronJob, now)
	statusErr := r.syncStatus(ctx, stored, cronJob)
	if err := errors.Join(historyErr, startErr, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

func (r *Reconciler) children(ctx context.Context, cronJob *batchv1.CronJob) ([]*batchv1.Job, error) {
	var list batchv1.JobList
	err := r.client.List(ctx, &list, client.InNamespace(cronJob.Namespace),
		client.MatchingFields{ownerIndex: string(cronJob.UID)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("failed to list Jobs: %w", err)
	}
	children := make([]*batchv1.Job, len(list.Items))
	for i := range list.Items {
		children[i] = &list.Items[i]
	}
	return children, nil
}

// syncActive writes into the status of cronJob what its Jobs say.
func (r *Reconciler) syncActive(ctx context.Context, cronJob *batchv1.CronJob, children []*batchv1.Job) error {
	o := observe(cronJob, children)
	for _, ref := range o.vanished {
		fresh := &batchv1.Job{}
		err := r.live.Get(ctx, types.NamespacedName{Namespace: cronJob.Namespace, Name: ref.Name}, fresh)
		switch {
		case apierrors.IsNotFound(err) || err == nil && fresh.UID != ref.UID:
			o.events = append(o.events, missing(ref.Name))
		case err != nil:
			return fmt.Errorf("failed to read Job %s again: %w", ref.Name, err)
		default:
			o.active = append(o.active, ref)
		}
	}
	cronJob.Status.Active, cronJob.Status.LastScheduleTime, cronJob.Status.LastSuccessfulTime = o.active, o.lastSchedule, o.lastSuccessful
	record(r.recorder, cronJob, o.events...)
	return nil
}

func (r *Reconciler) syncHistory(ctx context.Context, cronJob *batchv1.CronJob, children []*batchv1.Job) error {
	if cronJob.DeletionTimestamp != nil {
		return nil
	}
	var errs []error
	for _, job := range planHistory(cronJob, children) {
		errs = append(errs, r.deleteJob(ctx, cronJob, job.Name, job.UID))
	}
	return errors.Join(errs...)
}

// deleteJob deletes a Job with its Pods; one that is gone is no error.
func (r *Reconciler) deleteJob(ctx context.Context, cronJob *batchv1.CronJob, name string, uid types.UID) error {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: cronJob.Namespace, Name: name, UID: uid}}
	err := r.client.Delete(ctx, job, client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	if client.IgnoreNotFound(err) != nil {
		record(r.recorder, cronJob, deleteFailed(err))
		return fmt.Errorf("failed to delete Job %s: %w", name, err)
	}
	cronJob.Status.Active = slices.DeleteFunc(cronJob.Status.Active, func(ref corev1.ObjectReference) bool { return ref.UID == uid })
	record(r.recorder, cronJob, deleted(name))
	return nil
}

// syncStart makes the Job that is due, and returns when to look again.
func (r *Reconciler) syncStart(ctx context.Context, cronJob *batchv1.CronJob, now time.Time) (time.Duration, error) {
	plan := planStart(cronJob, now)
	record(r.recorder, cronJob, plan.events...)
	if plan.at == nil {
		return plan.wait, nil
	}
	for _, ref := range slices.Clone(plan.replace) {
		if err := r.deleteJob(ctx, cronJob, ref.Name, ref.UID); err != nil {
			return 0, err
		}
	}
	job, err := r.createJob(ctx, cronJob, *plan.at)
	if job == nil || err != nil {
		return 0, err
	}
	cronJob.Status.Active = append(cronJob.Status.Active, refTo(job))
	cronJob.Status.LastScheduleTime = new(metav1.NewTime(*plan.at))
	return planStart(cronJob, now).wait, nil
}

// createJob makes the Job of one time and returns it; nil when nothing is to be said of
// it in the status.
func (r *Reconciler) createJob(ctx context.Context, cronJob *batchv1.CronJob, at time.Time) (*batchv1.Job, error) {
	job, err := renderJob(cronJob, at)
	if err != nil {
		return nil, fmt.Errorf("failed to make a Job from the template: %w", err)
	}
	err = r.client.Create(ctx, job)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case apierrors.IsAlreadyExists(err):
		return r.existing(ctx, cronJob, job)
	case err != nil:
		record(r.recorder, cronJob, createFailed(err))
		return nil, fmt.Errorf("failed to create Job %s: %w", job.Name, err)
	}
	klog.FromContext(ctx).V(2).Info("Created a Job", "job", klog.KObj(job), "scheduled", at)
	record(r.recorder, cronJob, created(job.Name))
	return job, nil
}

// existing returns the Job that has the name of wanted, when it belongs to cronJob.
func (r *Reconciler) existing(ctx context.Context, cronJob *batchv1.CronJob, wanted *batchv1.Job) (*batchv1.Job, error) {
	job := &batchv1.Job{}
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(wanted), job); err != nil {
		return nil, fmt.Errorf("failed to read Job %s: %w", wanted.Name, err)
	}
	if !metav1.IsControlledBy(job, cronJob) {
		klog.FromContext(ctx).Info("The name of a Job is taken", "job", klog.KObj(job))
		return nil, nil
	}
	return job, nil
}

func (r *Reconciler) syncStatus(ctx context.Context, stored, cronJob *batchv1.CronJob) error {
	cronJob.Status.Summary = summary.CronJob(cronJob)
	if equality.Semantic.DeepEqual(stored.Status, cronJob.Status) {
		return nil
	}
	err := r.client.Status().Patch(ctx, cronJob, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to write status: %w", err)
	}
	return nil
}
