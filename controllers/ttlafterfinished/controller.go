// Package ttlafterfinished deletes Jobs that have finished, with their Pods, once
// spec.ttlSecondsAfterFinished has passed.
//
// It must never delete a Job that runs, nor believe a cache about the time that is left.
// It keeps no memory: after a crash the first look at each Job says how long to wait.
package ttlafterfinished

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "ttlafterfinished"

const defaultConcurrency = 5

// Options configure the controller. The zero value is good.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&batchv1.Job{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(obj client.Object) bool {
			job, isJob := obj.(*batchv1.Job)
			return isJob && expires(job)
		}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: defaultConcurrency, RateLimiter: backoff.RateLimiter()}).
		Complete(NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), o))
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconciler deletes one Job when its time has come.
type Reconciler struct {
	client client.Client
	live   client.Reader
	clock  clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads through c, and through live before it
// deletes.
func NewReconciler(c client.Client, live client.Reader, o Options) *Reconciler {
	r := &Reconciler{client: c, live: live, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	return r
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	// The cache first, for what it costs; then the API server, because the time may have
	// been prolonged.
	for _, reader := range []client.Reader{r.client, r.live} {
		job := &batchv1.Job{}
		if err := reader.Get(ctx, req.NamespacedName, job); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		if !expires(job) {
			return ctrl.Result{}, nil
		}
		if left := timeLeft(job, r.clock.Now()); left > 0 {
			return ctrl.Result{RequeueAfter: left}, nil
		}
		if reader == r.live {
			return ctrl.Result{}, r.delete(ctx, job)
		}
	}
	return ctrl.Result{}, nil
}

func (r *Reconciler) delete(ctx context.Context, job *batchv1.Job) error {
	klog.FromContext(ctx).V(2).Info("Deleting a Job that finished long ago", "ttlSeconds", *job.Spec.TTLSecondsAfterFinished)
	err := r.client.Delete(ctx, job, client.Preconditions{UID: &job.UID}, client.PropagationPolicy(metav1.DeletePropagationForeground))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to delete a Job whose time has passed: %w", err)
	}
	return nil
}

// expires says whether job has finished and has a time to live that counts.
func expires(job *batchv1.Job) bool {
	return job.DeletionTimestamp == nil && job.Spec.TTLSecondsAfterFinished != nil && jobs.Finished(job) != nil
}

// timeLeft is how long job, which expires, is still kept.
func timeLeft(job *batchv1.Job, now time.Time) time.Duration {
	ttl := time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second
	return jobs.Finished(job).LastTransitionTime.Add(ttl).Sub(now)
}
