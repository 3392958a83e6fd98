// Package node looks after Nodes: it gives each a Pod range, judges from its Lease
// whether its agent is alive, and translates conditions into taints that keep new
// Pods away and, zone by zone and not too fast, send away those that are there. The
// Pods of a silent node are taken out of service.
//
// It never deletes Pods (controllers/tainteviction does) and never talks to machines.
// Pod ranges are decided by the
// one leader from the Nodes it lists, its own writes included; no other record
// exists. When an agent was last heard of is kept in memory and measured on this
// process's clock: after a restart, or after the API server was away for longer than
// the Lease of the leader lives, every agent has the whole grace period again, so
// that an outage of the control plane makes no Node unreachable.
package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// Options are what the controller can be told.
type Options struct {
	// ClusterCIDRs are divided into one range per Node each, the IPv4 one into ranges of
	// MaskSize4, the IPv6 one into ranges of MaskSize6; none means that Nodes get none.
	ClusterCIDRs         ranges.List
	MaskSize4, MaskSize6 int
	// GracePeriod is how long an agent may be silent.
	GracePeriod time.Duration
	// Rates bound how fast Pods are sent away from silent nodes; the zero value means
	// DefaultRates.
	Rates Rates
	// Clock measures silence; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler looks after one Node at a time. It must not run in parallel with
// itself: two Nodes could get one range.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	options  Options

	mu         sync.Mutex
	heard      map[string]heartbeat
	seenRanges map[string][]netip.Prefix
}

// NewReconciler builds a reconciler for tests that call Reconcile themselves.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Rates == (Rates{}) {
		o.Rates = DefaultRates()
	}
	return &Reconciler{client: c, recorder: recorder, options: o, heard: map[string]heartbeat{}, seenRanges: map[string][]netip.Prefix{}}
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	if err := addNamespaceKeeper(mgr); err != nil {
		return err
	}
	nodeLeases := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == keelsonv1.NodeLeaseNamespace
	})
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, "node-controller"), o)
	if err := addZones(mgr, r.options); err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, byNode, nodesOf); err != nil {
		return fmt.Errorf("index Pods by node: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&keelsonv1.Node{}).
		Watches(&coordinationv1.Lease{}, handler.EnqueueRequestsFromMapFunc(toNode), builder.WithPredicates(nodeLeases)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1, RateLimiter: backoff.RateLimiter()}).
		Complete(r)
}

func toNode(_ context.Context, lease client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: lease.GetName()}}}
}

// Reconcile brings one Node up to date and comes back when its agent's time is up.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	node := &keelsonv1.Node{}
	if err := r.client.Get(ctx, request.NamespacedName, node); apierrors.IsNotFound(err) {
		return r.forget(ctx, request.Name)
	} else if err != nil {
		return ctrl.Result{}, fmt.Errorf("read node %s: %w", request.Name, err)
	}
	lease, err := r.lease(ctx, node.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	silentIn := r.listen(node, lease)
	updated := node.DeepCopy()
	if silentIn <= 0 {
		markSilent(&updated.Status, metav1.NewTime(r.options.Clock.Now()))
	}
	updated.Spec.Taints = computeTaints(updated)
	rangeErr := r.assignRanges(ctx, updated)
	if err := r.write(ctx, node, updated); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := errors.Join(rangeErr, r.markPodsNotReady(ctx, updated)); err != nil {
		return ctrl.Result{}, err
	}
	// At least a second: the moment itself must be over.
	return ctrl.Result{RequeueAfter: max(silentIn, time.Second)}, nil
}

func (r *Reconciler) lease(ctx context.Context, name string) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: keelsonv1.NodeLeaseNamespace, Name: name}, lease)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lease of node %s: %w", name, err)
	}
	return lease, nil
}

// listen notes whether the agent was heard since the last look and returns how long
// it may still be silent.
func (r *Reconciler) listen(node *keelsonv1.Node, lease *coordinationv1.Lease) time.Duration {
	now := r.options.Clock.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.heard[node.Name].hear(node, lease, now)
	r.heard[node.Name] = last
	return r.options.GracePeriod - now.Sub(last.at)
}

// assignRanges gives the Node a Pod range of each family if it has none, all or
// nothing. A Node that has some keeps them, whatever the cluster's ranges are now.
func (r *Reconciler) assignRanges(ctx context.Context, node *keelsonv1.Node) error {
	if len(r.options.ClusterCIDRs) == 0 || node.DeletionTimestamp != nil {
		return nil
	}
	has := rangesOf(node)
	if len(has) > 0 && r.judged(node.Name, has) {
		return nil
	}
	nodes := &keelsonv1.NodeList{}
	// The list waits for this process's own writes, so no range is given twice.
	if err := r.client.List(ctx, nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if node.Spec.PodCIDR != "" || len(node.Spec.PodCIDRs) > 0 {
		if err := judgeRanges(r.options.ClusterCIDRs, node, nodes.Items); err != nil {
			eventBadRange(r.recorder, node, err)
		}
		return nil
	}
	planned, err := planRanges(r.options.ClusterCIDRs, r.options.MaskSize4, r.options.MaskSize6, usedRanges(nodes.Items))
	if err != nil {
		eventNoRange(r.recorder, node, err)
		return fmt.Errorf("find a Pod range for node %s: %w", node.Name, err)
	}
	node.Spec.PodCIDR = planned[0].String()
	node.Spec.PodCIDRs = ranges.List(planned).Strings()
	r.judged(node.Name, planned)
	return nil
}

// judged says whether this process has looked at these ranges of the Node before,
// and notes that it has: they are compared with all others' once, not at each sign
// of life.
func (r *Reconciler) judged(name string, has []netip.Prefix) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(r.seenRanges[name], has) {
		return true
	}
	r.seenRanges[name] = has
	return false
}

// write stores what changed: spec, then status.
func (r *Reconciler) write(ctx context.Context, node, updated *keelsonv1.Node) error {
	updated.Status.Summary = summary.Node(updated)
	base := node.DeepCopy()
	wanted := updated.Status.DeepCopy()
	if !equality.Semantic.DeepEqual(node.Spec, updated.Spec) {
		if err := r.client.Patch(ctx, updated, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
			return fmt.Errorf("write spec of node %s: %w", node.Name, err)
		}
		klog.FromContext(ctx).Info("Changed node", "podCIDR", updated.Spec.PodCIDR, "taints", taintKeys(updated.Spec.Taints))
		// The answer holds the stored status.
		base = updated.DeepCopy()
		updated.Status = *wanted
	}
	if equality.Semantic.DeepEqual(base.Status, updated.Status) {
		return nil
	}
	if err := r.client.Status().Patch(ctx, updated, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("write status of node %s: %w", node.Name, err)
	}
	if wasReady, isReady := ready(&node.Status), ready(&updated.Status); wasReady != isReady {
		klog.FromContext(ctx).Info("Node went silent", "readyBefore", wasReady, "ready", isReady)
		eventNotReady(r.recorder, node)
	}
	return nil
}

// forget cleans up after a Node that is gone. Its Lease goes when nobody renews it
// any more: an agent may be about to register.
func (r *Reconciler) forget(ctx context.Context, name string) (ctrl.Result, error) {
	r.mu.Lock()
	delete(r.heard, name)
	delete(r.seenRanges, name)
	r.mu.Unlock()
	lease, err := r.lease(ctx, name)
	if err != nil || lease == nil {
		return ctrl.Result{}, err
	}
	if lease.Spec.RenewTime != nil {
		if rest := r.options.GracePeriod - r.options.Clock.Since(lease.Spec.RenewTime.Time); rest > 0 {
			return ctrl.Result{RequeueAfter: rest}, nil
		}
	}
	// Renewed this very moment: the precondition fails and the watch brings us back.
	err = r.client.Delete(ctx, lease, client.Preconditions{UID: &lease.UID, ResourceVersion: &lease.ResourceVersion})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return ctrl.Result{}, fmt.Errorf("delete lease of node %s: %w", name, err)
	}
	return ctrl.Result{}, nil
}
