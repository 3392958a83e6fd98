package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// zoneReconciler looks at all nodes at once, when one becomes ready or silent, comes or
// goes. What it remembers, when each zone has lost a node last, may be forgotten: after
// a restart each zone may lose one at once.
type zoneReconciler struct {
	client  client.Client
	options Options

	mu   sync.Mutex
	last map[string]time.Time
}

// everyNode stands for all nodes in the queue.
var everyNode = reconcile.Request{}

func addZones(mgr ctrl.Manager, o Options) error {
	r := &zoneReconciler{client: mgr.GetClient(), options: o}
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everyNode}
	})
	err := ctrl.NewControllerManagedBy(mgr).
		Named("node-zones").
		Watches(&keelsonv1.Node{}, all, builder.WithPredicates(readinessChanged())).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller node-zones: %w", err)
	}
	return nil
}

// readinessChanged leaves out heartbeats.
func readinessChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, wasNode := e.ObjectOld.(*keelsonv1.Node)
		after, isNode := e.ObjectNew.(*keelsonv1.Node)
		return wasNode && isNode && (wantedNoExecute(before) != wantedNoExecute(after) ||
			slices.ContainsFunc(before.Spec.Taints, isOurNoExecute) != slices.ContainsFunc(after.Spec.Taints, isOurNoExecute))
	}}
}

// Reconcile implements reconcile.Reconciler.
func (r *zoneReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var list keelsonv1.NodeList
	if err := r.client.List(ctx, &list); err != nil {
		return ctrl.Result{}, fmt.Errorf("list nodes: %w", err)
	}
	nodes := make(map[string]*keelsonv1.Node, len(list.Items))
	for i := range list.Items {
		nodes[list.Items[i].Name] = &list.Items[i]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	plan := planNoExecute(slices.Collect(maps.Values(nodes)), r.last, r.options.Rates, r.options.Clock.Now())
	var failed error
	for name, taints := range plan.set {
		failed = errors.Join(failed, r.setTaints(ctx, nodes[name], taints))
	}
	if failed != nil {
		return ctrl.Result{}, failed
	}
	r.last = plan.last
	return ctrl.Result{RequeueAfter: plan.next}, nil
}

func (r *zoneReconciler) setTaints(ctx context.Context, node *keelsonv1.Node, taints []corev1.Taint) error {
	changed := node.DeepCopy()
	changed.Spec.Taints = taints
	// A list is replaced: insist on the version that was read.
	patch := client.MergeFromWithOptions(node, client.MergeFromWithOptimisticLock{})
	if err := r.client.Patch(ctx, changed, patch); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write the taints of node %s: %w", node.Name, err)
	}
	klog.FromContext(ctx).Info("Changed the taints that send Pods away", "node", node.Name, "taints", taintKeys(taints))
	return nil
}
