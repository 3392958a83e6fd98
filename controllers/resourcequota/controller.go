// Package resourcequota counts what the objects of a Namespace take of its
// ResourceQuotas, and marks the Namespaces that have one, so that the API server asks
// admission before it stores an object there.
//
// It never refuses anything: that is the webhook's, which reserves in the same status.
// The count keeps a reservation until it has seen the object, so that what is used is
// never less than what is there. The package keeps no state; after a crash every quota
// is counted again.
package resourcequota

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/quota"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "resourcequota"

// settle is how long changes of objects are collected before a quota is counted again.
const settle = 100 * time.Millisecond

// resync is upstream's period of counting again without a reason, for what was missed.
const resync = 5 * time.Minute

// Options configure the controller. The zero value is good.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	r := &Reconciler{client: mgr.GetClient(), clock: o.Clock, kinds: mgr.GetRESTMapper(), watched: map[schema.GroupVersionKind]bool{}, cache: mgr.GetCache()}
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.ResourceQuota{}, builder.WithPredicates(quotaChanged())).
		Watches(&corev1.Namespace{}, quotasOfNamespace(r.client), builder.WithPredicates(markChanged())).
		Watches(&keelsonv1.Pod{}, quotasOf(r.client, quota.Pods), builder.WithPredicates(useChanged())).
		Watches(&keelsonv1.Service{}, quotasOf(r.client, quota.Services), builder.WithPredicates(useChanged())).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter(), MaxConcurrentReconciles: 5}).
		Build(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	r.controller = c
	return nil
}

// Reconciler counts one quota.
type Reconciler struct {
	client client.Client
	clock  clock.PassiveClock
	kinds  mapper
	cache  cache.Cache

	// controller is nil where nobody watches, in tests.
	controller controller.Controller
	mu         sync.Mutex
	// watched are the kinds of which only the number counts, and whose objects wake
	// their quotas: watched from the first quota on that names them.
	watched map[schema.GroupVersionKind]bool
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	q := &keelsonv1.ResourceQuota{}
	err := r.client.Get(ctx, req.NamespacedName, q)
	if apierrors.IsNotFound(err) {
		return ctrl.Result{}, r.syncMark(ctx, req.Namespace)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	// The mark comes first: a limit that the status shows is kept.
	if err := r.syncMark(ctx, req.Namespace); err != nil {
		return ctrl.Result{}, err
	}
	objects, err := r.listObjects(ctx, q)
	if err != nil {
		return ctrl.Result{}, err
	}
	counted := quota.Count(q, objects, r.clock.Now())
	if err := r.syncStatus(ctx, q, counted.Status(q)); err != nil {
		return ctrl.Result{}, err
	}
	wait := resync
	if counted.Next > 0 {
		wait = min(wait, counted.Next)
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// syncStatus insists on the version that was counted: a reservation made meanwhile must
// not get lost.
func (r *Reconciler) syncStatus(ctx context.Context, q *keelsonv1.ResourceQuota, status keelsonv1.ResourceQuotaStatus) error {
	status.Summary.Request, status.Summary.Limit = summary.Quota(&status.ResourceQuotaStatus)
	if equality.Semantic.DeepEqual(q.Status, status) {
		return nil
	}
	updated := q.DeepCopy()
	updated.Status = status
	if err := r.client.Status().Update(ctx, updated); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the count: %w", err)
	}
	return nil
}

// syncMark labels the Namespace as long as it has a quota.
func (r *Reconciler) syncMark(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: name}, namespace); err != nil {
		return client.IgnoreNotFound(err)
	}
	var list keelsonv1.ResourceQuotaList
	if err := r.client.List(ctx, &list, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the quotas of the namespace: %w", err)
	}
	_, marked := namespace.Labels[keelsonv1.QuotaLabel]
	if marked == (len(list.Items) > 0) {
		return nil
	}
	changed := namespace.DeepCopy()
	if marked {
		delete(changed.Labels, keelsonv1.QuotaLabel)
	} else {
		if changed.Labels == nil {
			changed.Labels = map[string]string{}
		}
		changed.Labels[keelsonv1.QuotaLabel] = "enforced"
	}
	if err := r.client.Patch(ctx, changed, client.MergeFrom(namespace)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("mark the namespace: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Marked a namespace", "namespace", name, "enforced", !marked)
	return nil
}
