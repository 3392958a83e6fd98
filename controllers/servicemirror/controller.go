// Package servicemirror lets the API server call Keelson's Services: webhooks of
// admission and conversion, and aggregated APIs, name a Service, and the API server
// looks for a built-in one of that name. For each Service that is named so, the package
// keeps a built-in Service of type ExternalName that leads to the cluster address of
// Keelson's Service.
//
// It never touches a built-in Service that it has not made (they bear a label), and
// mirrors nothing that nobody has named. It keeps no state: after a crash the references and
// the mirrors are read again, and what is missing or leads elsewhere is put right. It
// helps where the API server runs on a machine that routes cluster addresses, which is
// standalone mode.
package servicemirror

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "servicemirror"

// MirrorLabel marks the built-in Services that the package has made.
const MirrorLabel = "keelson.dev/service-mirror"

// index finds the objects that name a Service, by its namespace and name.
const index = "service"

// CacheOptions says what the manager's cache may leave out of the objects that are
// watched here: everything but the references.
func CacheOptions() map[client.Object]cache.ByObject {
	options := map[client.Object]cache.ByObject{
		&corev1.Service{}: {Label: mirrors()},
	}
	for _, kind := range referrers() {
		options[object(kind)] = cache.ByObject{Transform: stripReferrer}
	}
	return options
}

// Add registers the controller with mgr, whose cache has CacheOptions.
func Add(mgr ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Service{}, builder.WithPredicates(addressChanged())).
		Watches(&corev1.Service{}, &handler.EnqueueRequestForObject{})
	for _, kind := range referrers() {
		err := mgr.GetFieldIndexer().IndexField(context.Background(), object(kind), index, func(obj client.Object) []string {
			var names []string
			for _, name := range references(obj) {
				names = append(names, name.String())
			}
			return names
		})
		if err != nil {
			return fmt.Errorf("failed to index %s: %w", kind.Kind, err)
		}
		b = b.Watches(object(kind), referrerHandler())
	}
	err := b.WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&Reconciler{client: mgr.GetClient(), named: mgr.GetCache()})
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// addressChanged passes what a mirror depends on.
func addressChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, wasService := e.ObjectOld.(*keelsonv1.Service)
		after, isService := e.ObjectNew.(*keelsonv1.Service)
		return wasService && isService && before.Spec.ClusterIP != after.Spec.ClusterIP
	}}
}

// referrerHandler queues the Services that an object names, or named before a change.
func referrerHandler() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, obj client.Object) []reconcile.Request {
		var requests []reconcile.Request
		for _, name := range references(obj) {
			requests = append(requests, reconcile.Request{NamespacedName: name})
		}
		return requests
	})
}

// Reconciler keeps one mirror.
type Reconciler struct {
	client client.Client
	// named reads what names Services: the cache itself, because the client reads objects
	// without a Go type from the API server, which has no such index.
	named client.Reader
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	have := &corev1.Service{}
	if err := r.client.Get(ctx, req.NamespacedName, have); apierrors.IsNotFound(err) {
		have = nil
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("read the mirror: %w", err)
	}
	want, err := r.wanted(ctx, req.NamespacedName, have != nil)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.apply(ctx, have, want)
}

// wanted is the mirror that there should be, nil for none. One that is there stays as
// long as its Service: what names a Service is often replaced, and the API server calls
// the new one at once.
func (r *Reconciler) wanted(ctx context.Context, name types.NamespacedName, mirrored bool) (*corev1.Service, error) {
	service := &keelsonv1.Service{}
	if err := r.client.Get(ctx, name, service); apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no Service, no mirror
	} else if err != nil {
		return nil, fmt.Errorf("read the Service: %w", err)
	}
	if !mirrored {
		named, err := r.isNamed(ctx, name)
		if err != nil || !named {
			return nil, err
		}
	}
	return renderMirror(service), nil
}

// isNamed says whether anything names the Service.
func (r *Reconciler) isNamed(ctx context.Context, name types.NamespacedName) (bool, error) {
	for _, kind := range referrers() {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		err := r.named.List(ctx, list, client.MatchingFields{index: name.String()}, client.UnsafeDisableDeepCopy)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("find the %s that name it: %w", kind.Kind, err)
		}
		if len(list.Items) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// apply makes have into want. A built-in Service that somebody else made is in the way,
// and stays.
func (r *Reconciler) apply(ctx context.Context, have, want *corev1.Service) error {
	logger := klog.FromContext(ctx)
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		err := r.client.Delete(ctx, have, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &have.UID}})
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("delete the mirror of a Service that is gone: %w", err)
		}
		logger.V(2).Info("Deleted the mirror of a Service that is gone or has no address")
		return nil
	case have == nil:
		err := r.client.Create(ctx, want)
		if apierrors.IsAlreadyExists(err) {
			logger.Info("A built-in Service of the name exists, the API server will call that one", "service", klog.KObj(want))
			return nil
		}
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("create the mirror: %w", err)
		}
		logger.V(2).Info("Mirrored a Service that the API server is to call", "address", want.Spec.ExternalName)
		return nil
	case have.Spec.ExternalName == want.Spec.ExternalName && have.Spec.Type == want.Spec.Type:
		return nil
	}
	changed := have.DeepCopy()
	changed.Spec.Type, changed.Spec.ExternalName = want.Spec.Type, want.Spec.ExternalName
	if err := r.client.Patch(ctx, changed, client.MergeFrom(have)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("change the address of the mirror: %w", err)
	}
	return nil
}
