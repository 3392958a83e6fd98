package node

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// ownNamespaces are those without which no Lease can be written.
func ownNamespaces() []string {
	return []string{keelsonv1.SystemNamespace, keelsonv1.NodeLeaseNamespace}
}

// namespaceKeeper makes Keelson's own namespaces again when somebody deleted them.
// Before the first leader, the manager makes them while it starts.
type namespaceKeeper struct {
	client client.Client
}

func addNamespaceKeeper(mgr ctrl.Manager) error {
	ours := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return slices.Contains(ownNamespaces(), o.GetName())
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("node-namespaces").
		For(&corev1.Namespace{}, builder.WithPredicates(ours)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&namespaceKeeper{client: mgr.GetClient()})
}

// Reconcile creates the namespace if it is gone.
func (k *namespaceKeeper) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	err := k.client.Get(ctx, request.NamespacedName, &corev1.Namespace{})
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: request.Name}}
	if err := k.client.Create(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		return ctrl.Result{}, fmt.Errorf("create namespace %s: %w", request.Name, err)
	}
	klog.FromContext(ctx).Info("Created namespace")
	return ctrl.Result{}, nil
}
