// Package endpoints keeps one Endpoints object for each Service that has a selector:
// the addresses of its Pods, ready and not ready, for each of its ports.
//
// It must never touch the Endpoints of a Service without a selector: those belong to
// their author. Everything it writes follows from the Service and the Pods, so after
// a crash the first pass over all Services repairs whatever was missed; objects of
// Services that were deleted meanwhile are found by their label.
package endpoints

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/servicepods"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "endpoints"

const (
	defaultConcurrency = 5
	// DefaultBatchPeriod is long enough to catch Pods that become ready together, and
	// short against the time that a Pod needs to become ready.
	DefaultBatchPeriod = 50 * time.Millisecond
)

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many Services are worked on at once; 0 means 5.
	Concurrency int
	// BatchPeriod is how long changes of Pods are collected before the Endpoints are
	// written; 0 means DefaultBatchPeriod.
	BatchPeriod time.Duration
	// Pods is shared with other controllers of the same manager; nil: not shared.
	Pods *servicepods.Index
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	if o.Pods == nil {
		o.Pods = &servicepods.Index{}
	}
	if err := o.Pods.Register(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.BatchPeriod == 0 {
		o.BatchPeriod = DefaultBatchPeriod
	}
	changed := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{})
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Service{}, builder.WithPredicates(changed)).
		Watches(&keelsonv1.Pod{}, servicepods.Handler(mgr.GetClient(), o.BatchPeriod)).
		Watches(&keelsonv1.Endpoints{}, endpointsHandler()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.Concurrency,
			RateLimiter:             backoff.RateLimiter(),
		}).
		Complete(&Reconciler{client: mgr.GetClient(), recorder: eventrecorder.New(mgr, Name)})
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconciler brings the Endpoints of one Service up to date.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	service := &keelsonv1.Service{}
	err := r.client.Get(ctx, req.NamespacedName, service)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.deleteEndpoints(ctx, req)
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("failed to read the Service: %w", err)
	case len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName:
		return ctrl.Result{}, nil
	}
	pods, err := servicepods.List(ctx, r.client, service)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.syncEndpoints(ctx, service, computeSubsets(service, pods))
}

func (r *Reconciler) syncEndpoints(ctx context.Context, service *keelsonv1.Service, subsets []corev1.EndpointSubset) error {
	current := &keelsonv1.Endpoints{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(service), current)
	if apierrors.IsNotFound(err) {
		return r.createEndpoints(ctx, service, renderEndpoints(service, &keelsonv1.Endpoints{}, subsets))
	}
	if err != nil {
		return fmt.Errorf("failed to read the Endpoints: %w", err)
	}
	wanted := renderEndpoints(service, current, subsets)
	if endpointsEqual(current, wanted) {
		return nil
	}
	if err := r.client.Patch(ctx, wanted, client.MergeFrom(current)); err != nil {
		recordUpdateFailed(r.recorder, service, err)
		return fmt.Errorf("failed to update the Endpoints: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Updated Endpoints", "endpoints", wanted.Status.Summary.Endpoints)
	return nil
}

func (r *Reconciler) createEndpoints(ctx context.Context, service *keelsonv1.Service, wanted *keelsonv1.Endpoints) error {
	err := r.client.Create(ctx, wanted)
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	case err != nil:
		recordCreateFailed(r.recorder, service, err)
		return fmt.Errorf("failed to create the Endpoints: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Created Endpoints", "endpoints", wanted.Status.Summary.Endpoints)
	return nil
}

func (r *Reconciler) deleteEndpoints(ctx context.Context, req ctrl.Request) error {
	endpoints := &keelsonv1.Endpoints{}
	if err := r.client.Get(ctx, req.NamespacedName, endpoints); err != nil {
		return client.IgnoreNotFound(err)
	}
	if err := r.client.Delete(ctx, endpoints); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to delete the Endpoints of a deleted Service: %w", err)
	}
	klog.FromContext(ctx).V(2).Info("Deleted Endpoints whose Service is gone")
	return nil
}
