// Package loadbalancer gives Services of type LoadBalancer addresses from a pool, where
// no cloud does. The node agents announce them (nodeagent/announce), and the proxy
// takes their traffic in.
//
// It must run on one leader only, with one worker: it is the only writer of those
// addresses, and what is taken it reads from the list of all Services, never from a
// memory of its own. So nothing is lost in a crash and nothing leaks: an address is
// free as soon as no Service has it. A Service that is deleted stays, by its finalizer,
// until no node announces its addresses any more. It never touches a Service of
// another class, and without a pool none at all but those that it gave addresses to
// when there was one.
package loadbalancer

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "loadbalancer"

const (
	// Finalizer is upstream's.
	Finalizer = "service.kubernetes.io/load-balancer-cleanup"
	// ConditionType tells whether a Service has its addresses, and that they are ours.
	ConditionType = "keelson.dev/LoadBalancer"
	// releaseCheck is how often a Service that is being deleted is looked at.
	releaseCheck = time.Second
)

// Options configure the controller.
type Options struct {
	// Pool is what there is to give away; nil switches the controller off, but for
	// telling users so and for taking back what it gave.
	Pool addrpool.Pool
	// Clock judges Leases; the real one by default.
	Clock clock.PassiveClock
}

// Reconciler settles the addresses of one Service.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	options  Options
}

// NewReconciler builds a reconciler for tests that call Reconcile themselves.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{client: c, recorder: recorder, options: o}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	// A Service that has to give something up got no event of its own, so it is settled
	// here. Each is visited once: a loser never displaces its winner.
	pending, seen := []types.NamespacedName{req.NamespacedName}, map[types.NamespacedName]bool{}
	var result ctrl.Result
	for len(pending) > 0 {
		key := pending[0]
		pending = pending[1:]
		if seen[key] {
			continue
		}
		seen[key] = true
		service := &keelsonv1.Service{}
		if err := r.client.Get(ctx, key, service); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, fmt.Errorf("read Service %s: %w", key, err)
		} else if err != nil {
			continue
		}
		losers, again, err := r.settle(ctx, service)
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("failed to settle Service %s: %w", key, err)
		}
		pending = append(pending, losers...)
		result.RequeueAfter = max(result.RequeueAfter, again)
	}
	return result, nil
}

// settle brings one Service up to date and returns those that must give way to it, and
// when to come back to it.
func (r *Reconciler) settle(ctx context.Context, service *keelsonv1.Service) (losers []types.NamespacedName, again time.Duration, err error) {
	mine, wanted := conditionOf(service) != nil, isOurs(service) && r.options.Pool != nil
	switch deleted := service.DeletionTimestamp != nil; {
	case mine && !wanted, deleted && (mine || wanted):
		again, err = r.release(ctx, service)
		return nil, again, err
	case !deleted && isOurs(service) && !wanted:
		r.tellOff(service)
		return nil, 0, nil
	case !wanted, len(service.Spec.IPFamilies) == 0: // in the end, the controller of Services has not been here yet
		return nil, 0, nil
	}
	var services keelsonv1.ServiceList
	if err := r.client.List(ctx, &services, client.UnsafeDisableDeepCopy); err != nil {
		return nil, 0, fmt.Errorf("list what other Services have: %w", err)
	}
	var nodes keelsonv1.NodeList
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, 0, fmt.Errorf("list the addresses of Nodes: %w", err)
	}
	p := makePlan(computeLedger(service, services.Items, nodes.Items), r.options.Pool)
	if err := r.syncStatus(ctx, service, &p); err != nil {
		return nil, 0, err
	}
	// Second: the condition says whose the finalizer is.
	return p.losers, 0, r.addFinalizer(ctx, service)
}

func (r *Reconciler) addFinalizer(ctx context.Context, service *keelsonv1.Service) error {
	before := service.DeepCopy()
	if !controllerutil.AddFinalizer(service, Finalizer) {
		return nil
	}
	err := r.client.Patch(ctx, service, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("add the finalizer: %w", err)
	}
	return nil
}

// release takes the addresses of a Service back and lets it go. One that is being
// deleted keeps them in its status until no node announces them: until then they are
// not free.
func (r *Reconciler) release(ctx context.Context, service *keelsonv1.Service) (time.Duration, error) {
	announced, err := r.announced(ctx, service)
	if err != nil {
		return 0, err
	}
	if announced && service.DeletionTimestamp != nil {
		return releaseCheck, nil
	}
	if controllerutil.ContainsFinalizer(service, Finalizer) {
		r.event(service, reasonDeleting, "Deleting load balancer")
		before := service.DeepCopy()
		controllerutil.RemoveFinalizer(service, Finalizer)
		err := r.client.Patch(ctx, service, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) != nil {
			return 0, fmt.Errorf("remove the finalizer: %w", err)
		}
		r.event(service, reasonDeleted, "Deleted load balancer")
		klog.FromContext(ctx).V(2).Info("Released the addresses of a load balancer", "service", klog.KObj(service))
	}
	if service.DeletionTimestamp != nil {
		return 0, nil
	}
	return 0, r.clearStatus(ctx, service)
}

// announced says whether a node may still announce an address of the Service: its Lease
// has a holder and has not run out.
func (r *Reconciler) announced(ctx context.Context, service *keelsonv1.Service) (bool, error) {
	for _, addr := range heldBy(service) {
		name := LeaseName(addr)
		lease := &coordinationv1.Lease{}
		err := r.client.Get(ctx, types.NamespacedName{Namespace: keelsonv1.NodeLeaseNamespace, Name: name}, lease)
		if client.IgnoreNotFound(err) != nil {
			return false, fmt.Errorf("read Lease %s: %w", name, err)
		}
		if err == nil && isHeld(lease, r.options.Clock.Now()) {
			return true, nil
		}
	}
	return false, nil
}

func isHeld(lease *coordinationv1.Lease, now time.Time) bool {
	s := lease.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || s.RenewTime == nil || s.LeaseDurationSeconds == nil {
		return false
	}
	return now.Before(s.RenewTime.Add(time.Duration(*s.LeaseDurationSeconds) * time.Second))
}
