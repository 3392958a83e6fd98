// Package endpointslicemirroring keeps EndpointSlices that say the same as Endpoints
// which a person, or a program that knows no slices, has written for a Service without a
// selector. Who reads slices alone then sees those, too.
//
// It never touches a slice that is not labelled as its own, mirrors nothing for a Service
// that has a selector, and leaves out Endpoints that ask for it by label or that serve as
// a lock of leader election. Everything it writes follows from the Endpoints and the
// Service, so after a crash the first pass over all Endpoints and all mirrors repairs what
// was missed; a mirror whose Endpoints are gone is deleted by the garbage collector.
package endpointslicemirroring

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
)

const (
	// Name is the controller's name in --controllers, logs, metrics and events.
	Name = "endpointslicemirroring"
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by of the
	// slices that this controller writes; it is upstream's.
	ManagedBy = "endpointslicemirroring-controller.k8s.io"

	defaultConcurrency = 5
)

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many Endpoints are worked on at once; 0 means 5.
	Concurrency int
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &discoveryv1.EndpointSlice{}, mirrorIndex, serviceOfMirror); err != nil {
		return fmt.Errorf("failed to index EndpointSlices by Service: %w", err)
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Endpoints{}, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{}, mayMirror())).
		Watches(&keelsonv1.Service{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(selectorComesOrGoes())).
		Watches(&discoveryv1.EndpointSlice{}, mirrorHandler()).
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

// Reconciler brings the mirrors of one Endpoints object up to date.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	endpoints, err := r.toMirror(ctx, req)
	if err != nil {
		return ctrl.Result{}, err
	}
	existing, err := r.listMirrors(ctx, req)
	if err != nil {
		return ctrl.Result{}, err
	}
	if endpoints == nil {
		return ctrl.Result{}, r.apply(ctx, plan{remove: existing})
	}
	groups, skipped := computeGroups(endpoints.Subsets)
	p := makePlan(endpoints, groups, existing)
	if err := r.apply(ctx, p); err != nil {
		return ctrl.Result{}, err
	}
	if p.changes() {
		recordSkipped(r.recorder, endpoints, skipped)
	}
	return ctrl.Result{}, nil
}

// toMirror returns the Endpoints, nil where there is nothing to mirror.
func (r *Reconciler) toMirror(ctx context.Context, req ctrl.Request) (*keelsonv1.Endpoints, error) {
	endpoints := &keelsonv1.Endpoints{}
	err := r.client.Get(ctx, req.NamespacedName, endpoints)
	if apierrors.IsNotFound(err) || err == nil && (!wantsMirror(endpoints) || endpoints.DeletionTimestamp != nil) {
		return nil, nil //nolint:nilnil // nothing to mirror is no error
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read the Endpoints: %w", err)
	}
	service := &keelsonv1.Service{}
	err = r.client.Get(ctx, req.NamespacedName, service)
	if apierrors.IsNotFound(err) || err == nil && len(service.Spec.Selector) > 0 {
		return nil, nil //nolint:nilnil // nothing to mirror is no error
	}
	if err != nil {
		return nil, fmt.Errorf("failed to read the Service: %w", err)
	}
	return endpoints, nil
}

// listMirrors returns the mirrors in the order of their names. They are the cache's own
// objects: read, never write.
func (r *Reconciler) listMirrors(ctx context.Context, req ctrl.Request) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := r.client.List(ctx, &list, client.InNamespace(req.Namespace), client.MatchingFields{mirrorIndex: req.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("failed to list EndpointSlices: %w", err)
	}
	var all []*discoveryv1.EndpointSlice
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			all = append(all, &list.Items[i])
		}
	}
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// apply writes what is new first, so that no address is missing in between.
func (r *Reconciler) apply(ctx context.Context, p plan) error {
	for _, slice := range p.create {
		err := r.client.Create(ctx, slice)
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("failed to create EndpointSlice: %w", err)
		}
	}
	for _, u := range p.update {
		if err := r.client.Patch(ctx, u.to, client.MergeFromWithOptions(u.from, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("failed to update EndpointSlice %s: %w", u.to.Name, err)
		}
	}
	for _, slice := range p.remove {
		if err := r.client.Delete(ctx, slice, client.Preconditions{UID: &slice.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("failed to delete EndpointSlice %s: %w", slice.Name, err)
		}
	}
	if p.changes() {
		klog.FromContext(ctx).V(2).Info("Mirrored Endpoints", "created", len(p.create), "updated", len(p.update), "deleted", len(p.remove))
	}
	return nil
}
