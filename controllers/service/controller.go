// Package service gives Services their cluster addresses and node ports, writes
// their columns, and keeps the Service default/kubernetes with its Endpoints.
//
// It must run on one leader only, with one worker: it is the only writer of those
// numbers, and what is taken it reads from the list of all Services, never from a
// memory of its own. So nothing is lost in a crash and nothing leaks: an address is
// free as soon as no Service has it. Where two Services have the same one all the
// same (two leaders for a moment, admission of two at once), the older keeps it.
package service

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "service"

// Options configure the controller.
type Options struct {
	// ServiceCIDR is the range of cluster addresses; empty means
	// svcranges.DefaultServiceCIDR.
	ServiceCIDR string
	// NodePortRange is the range of node ports; empty means
	// svcranges.DefaultNodePortRange.
	NodePortRange string
	// KubernetesServiceEndpoints are the addresses (ip:port) of the API server as
	// Pods reach it. Empty means that no Service default/kubernetes is kept.
	KubernetesServiceEndpoints []string
	// RegisteredAPIServers leaves out those of KubernetesServiceEndpoints on machines
	// whose API server has not registered itself. The cache needs CacheOptions then.
	RegisteredAPIServers bool
	// IntN draws a number in [0, n); nil means math/rand/v2.
	IntN func(n int) int
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	r, err := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, Name), o)
	if err != nil {
		return err
	}
	b := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Service{}, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WithOptions(controller.Options{
			// One worker: two could give away the same number.
			MaxConcurrentReconciles: 1,
			RateLimiter:             backoff.RateLimiter(),
		})
	if r.apiServer.configured() {
		isKubernetes := predicate.NewPredicateFuncs(func(obj client.Object) bool {
			return client.ObjectKeyFromObject(obj) == kubernetesKey
		})
		ofKubernetes := predicate.NewPredicateFuncs(func(obj client.Object) bool {
			return obj.GetNamespace() == kubernetesKey.Namespace && obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName] == kubernetesKey.Name ||
				isKubernetes.Generic(event.GenericEvent{Object: obj})
		})
		b = b.Watches(&keelsonv1.Endpoints{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(isKubernetes)).
			Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
				return []reconcile.Request{{NamespacedName: kubernetesKey}}
			}), builder.WithPredicates(ofKubernetes)).
			WatchesRawSource(source.Func(enqueueKubernetes))
		if o.RegisteredAPIServers {
			b = b.Watches(&upstreamdiscoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
				return []reconcile.Request{{NamespacedName: kubernetesKey}}
			}), builder.WithPredicates(ofKubernetes))
		}
	}
	if err := b.Complete(r); err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// enqueueKubernetes starts the first reconciliation of an object that may not exist.
func enqueueKubernetes(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	q.Add(reconcile.Request{NamespacedName: kubernetesKey})
	return nil
}

// Reconciler settles what one Service holds.
type Reconciler struct {
	client    client.Client
	recorder  events.EventRecorder
	ranges    ranges
	apiServer apiServer
	// registeredOnly is Options.RegisteredAPIServers.
	registeredOnly bool
}

// NewReconciler checks o. Errors name the flag of the manager.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) (*Reconciler, error) {
	if o.ServiceCIDR == "" {
		o.ServiceCIDR = svcranges.DefaultServiceCIDR
	}
	if o.NodePortRange == "" {
		o.NodePortRange = svcranges.DefaultNodePortRange
	}
	if o.IntN == nil {
		o.IntN = rand.IntN //nolint:forbidigo // the source that is injected outside of tests
	}
	r := &Reconciler{client: c, recorder: recorder, ranges: ranges{intN: o.IntN}, registeredOnly: o.RegisteredAPIServers}
	addresses, err := svcranges.ParseServiceCIDRs(o.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("--service-cidr: %w", err)
	}
	r.ranges.addresses = addresses
	if r.ranges.ports, err = svcranges.ParseNodePortRange(o.NodePortRange); err != nil {
		return nil, fmt.Errorf("--node-port-range: %w", err)
	}
	if r.apiServer, err = parseAPIServer(o.KubernetesServiceEndpoints, addresses[0].Is4()); err != nil {
		return nil, err
	}
	if o.RegisteredAPIServers && !r.apiServer.configured() {
		return nil, errors.New("--kubernetes-service-registered-only: needs the addresses of all API servers in --kubernetes-service-endpoints")
	}
	return r, nil
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if req.NamespacedName == kubernetesKey && r.apiServer.configured() {
		if err := r.syncKubernetes(ctx); err != nil {
			return ctrl.Result{}, err
		}
	}
	// A Service that has to give something up got no event of its own, so it is
	// settled here. Each is visited once: a loser never displaces its winner.
	pending, seen := []types.NamespacedName{req.NamespacedName}, map[types.NamespacedName]bool{}
	for len(pending) > 0 {
		key := pending[0]
		pending = pending[1:]
		if seen[key] {
			continue
		}
		seen[key] = true
		losers, err := r.settle(ctx, key)
		if err != nil {
			return ctrl.Result{}, fmt.Errorf("failed to settle Service %s: %w", key, err)
		}
		pending = append(pending, losers...)
	}
	return ctrl.Result{}, nil
}

// settle brings one Service up to date and returns those that must give way to it.
func (r *Reconciler) settle(ctx context.Context, key types.NamespacedName) (losers []types.NamespacedName, err error) {
	service := &keelsonv1.Service{}
	if err := r.client.Get(ctx, key, service); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	if service.DeletionTimestamp != nil {
		return nil, nil
	}
	var all keelsonv1.ServiceList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("failed to list what other Services have: %w", err)
	}
	p := makePlan(service, computeLedger(all.Items, service), r.ranges)
	if err := r.syncSpec(ctx, service, &p); err != nil {
		return nil, err
	}
	if err := r.syncStatus(ctx, service); err != nil {
		return nil, err
	}
	return p.losers, p.shortage
}

// syncSpec writes the plan into service and the API, and tells the user.
func (r *Reconciler) syncSpec(ctx context.Context, service *keelsonv1.Service, p *plan) error {
	if !equality.Semantic.DeepEqual(service.Spec, p.spec) {
		before := service.DeepCopy()
		service.Spec = p.spec
		// The list of ports is replaced, and a user may be changing the type right now.
		if err := r.client.Patch(ctx, service, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return client.IgnoreNotFound(fmt.Errorf("failed to write the allocation: %w", err))
		}
		klog.FromContext(ctx).V(2).Info("Allocated", "service", klog.KObj(service), "clusterIP", service.Spec.ClusterIP)
	}
	record(r.recorder, service, p.notes)
	return nil
}

func (r *Reconciler) syncStatus(ctx context.Context, service *keelsonv1.Service) error {
	before := service.DeepCopy()
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		// What a load balancer has left behind when the type was changed; upstream clears
		// it in the same write.
		service.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
	service.Status.Summary = summary.Service(service)
	if equality.Semantic.DeepEqual(before.Status, service.Status) {
		return nil
	}
	err := r.client.Status().Patch(ctx, service, client.MergeFrom(before))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to write status: %w", err)
	}
	return nil
}
