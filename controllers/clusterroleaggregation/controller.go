// Package clusterroleaggregation fills the rules of ClusterRoles that have an
// aggregationRule with those of the ClusterRoles it selects, as a stock controller
// manager does.
//
// It never touches a ClusterRole without an aggregationRule. It keeps no state: after a
// crash every aggregating ClusterRole is computed again from what there is.
package clusterroleaggregation

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "clusterroleaggregation"

const (
	// owner is upstream's field manager, so that a role that moves between the two
	// controllers has one owner of its rules.
	owner = client.FieldOwner("clusterrole-aggregation-controller")
	// aggregating is the index of the ClusterRoles that have an aggregationRule.
	aggregating      = "aggregating"
	aggregatingValue = "yes"
)

// Reconciler computes one ClusterRole.
type Reconciler struct {
	client client.Client
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &rbacv1.ClusterRole{}, aggregating, func(o client.Object) []string {
		if role, isRole := o.(*rbacv1.ClusterRole); !isRole || role.AggregationRule == nil {
			return nil
		}
		return []string{aggregatingValue}
	})
	if err != nil {
		return fmt.Errorf("failed to index ClusterRoles: %w", err)
	}
	r := &Reconciler{client: mgr.GetClient()}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&rbacv1.ClusterRole{}).
		Watches(&rbacv1.ClusterRole{}, handler.EnqueueRequestsFromMapFunc(r.selecting)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// selecting finds the ClusterRoles that take over the rules of role. A change of labels
// comes here with the old and the new ones.
func (r *Reconciler) selecting(ctx context.Context, role client.Object) []reconcile.Request {
	var roles rbacv1.ClusterRoleList
	if err := r.client.List(ctx, &roles, client.MatchingFields{aggregating: aggregatingValue}); err != nil {
		// The cache answers this unless the process ends.
		klog.FromContext(ctx).Error(err, "Failed to list aggregating ClusterRoles")
		return nil
	}
	var requests []reconcile.Request
	for i := range roles.Items {
		if selects(&roles.Items[i], role) {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: roles.Items[i].Name}})
		}
	}
	return requests
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	role := &rbacv1.ClusterRole{}
	if err := r.client.Get(ctx, req.NamespacedName, role); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if role.AggregationRule == nil || role.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	var all rbacv1.ClusterRoleList
	if err := r.client.List(ctx, &all); err != nil {
		return ctrl.Result{}, fmt.Errorf("list ClusterRoles: %w", err)
	}
	rules, err := computeRules(role, all.Items)
	if err != nil {
		// No retry helps: the API server accepts no such selector but from an old version.
		return ctrl.Result{}, reconcile.TerminalError(fmt.Errorf("read aggregationRule of ClusterRole %s: %w", role.Name, err))
	}
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return ctrl.Result{}, nil
	}
	changed := role.DeepCopy()
	changed.Rules = rules
	if err := r.client.Patch(ctx, changed, client.MergeFrom(role), owner); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("write rules of ClusterRole %s: %w", role.Name, err)
	}
	klog.FromContext(ctx).V(2).Info("Aggregated the rules of a ClusterRole", "rules", len(rules))
	return ctrl.Result{}, nil
}
