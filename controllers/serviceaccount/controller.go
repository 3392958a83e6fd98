// Package serviceaccount keeps a ServiceAccount named "default" in every Namespace
// that is not being deleted, as a stock controller manager does.
//
// It never changes an account that exists and creates no tokens: those are asked
// for through the TokenRequest API. It holds no state; after a crash every Namespace
// is looked at again.
package serviceaccount

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the account that Pods run as when they name none.
const Name = "default"

// Reconciler looks after one Namespace at a time.
type Reconciler struct {
	client client.Client
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetName() == Name })
	return ctrl.NewControllerManagedBy(mgr).
		Named("serviceaccount").
		For(&corev1.Namespace{}).
		WatchesMetadata(&corev1.ServiceAccount{}, handler.EnqueueRequestsFromMapFunc(toNamespace), builder.WithPredicates(ours)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&Reconciler{client: mgr.GetClient()})
}

func toNamespace(_ context.Context, account client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: account.GetNamespace()}}}
}

// Reconcile creates the account if it is missing.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, request.NamespacedName, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	present := &metav1.PartialObjectMetadata{}
	present.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"))
	err := r.client.Get(ctx, types.NamespacedName{Namespace: namespace.Name, Name: Name}, present)
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: Name}}
	// The cache holds metadata only, so nothing may wait for this typed write.
	err = r.client.Create(ctx, account, client.DisableReadYourWritesConsistency)
	switch {
	case err == nil:
		klog.FromContext(ctx).Info("Created service account", "serviceAccount", klog.KObj(account))
	case apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err),
		apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
	default:
		return ctrl.Result{}, fmt.Errorf("create service account %s: %w", klog.KObj(account), err)
	}
	return ctrl.Result{}, nil
}
