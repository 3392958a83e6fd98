package job

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

const orphansName = Name + "-orphans"

func addOrphans(mgr ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(mgr).
		Named(orphansName).
		Watches(&keelsonv1.Pod{}, orphanHandler()).
		Watches(&batchv1.Job{}, abandonHandler(mgr.GetClient())).
		WithOptions(controller.Options{MaxConcurrentReconciles: defaultConcurrency, RateLimiter: backoff.RateLimiter()}).
		Complete(NewOrphanReconciler(mgr.GetClient(), mgr.GetAPIReader()))
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", orphansName, err)
	}
	return nil
}

// OrphanReconciler takes the tracking finalizer off one Pod that no Job will count: its
// Job is gone, has finished, or was never there. Without it such a Pod, and its
// namespace, could not be deleted.
type OrphanReconciler struct {
	client client.Client
	live   client.Reader
}

// NewOrphanReconciler returns an OrphanReconciler that reads through c, and through
// live before it believes that a Job is gone.
func NewOrphanReconciler(c client.Client, live client.Reader) *OrphanReconciler {
	return &OrphanReconciler{client: c, live: live}
}

// Reconcile implements reconcile.Reconciler; the request names a Pod.
func (r *OrphanReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &keelsonv1.Pod{}
	if err := r.client.Get(ctx, req.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !jobs.IsTracked(pod) {
		return ctrl.Result{}, nil
	}
	abandoned, err := r.isAbandoned(ctx, pod)
	if err != nil || !abandoned {
		return ctrl.Result{}, err
	}
	klog.FromContext(ctx).V(2).Info("Releasing a Pod that no Job will count", "pod", klog.KObj(pod))
	return ctrl.Result{}, dropFinalizer(ctx, r.client, pod)
}

func (r *OrphanReconciler) isAbandoned(ctx context.Context, pod *keelsonv1.Pod) (bool, error) {
	if metav1.GetControllerOfNoCopy(pod) == nil {
		return true, nil
	}
	ref := jobOf(pod)
	if ref == nil {
		// Another kind's controller may use the finalizer in its own way.
		return false, nil
	}
	key := types.NamespacedName{Namespace: pod.Namespace, Name: ref.Name}
	job := &batchv1.Job{}
	err := r.client.Get(ctx, key, job)
	if apierrors.IsNotFound(err) || err == nil && job.UID != ref.UID {
		// The cache of Jobs may be behind that of Pods.
		err = r.live.Get(ctx, key, job)
	}
	switch {
	case apierrors.IsNotFound(err) || err == nil && job.UID != ref.UID:
		return true, nil
	case err != nil:
		return false, fmt.Errorf("failed to read Job %s: %w", key, err)
	}
	return jobs.ManagedByOther(job) == "" && jobs.Finished(job) != nil, nil
}
