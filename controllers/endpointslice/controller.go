// Package endpointslice keeps the EndpointSlices of each Service that has a selector:
// the addresses of its Pods, by family and by set of ports, at most 100 in one slice, so
// that the change of one Pod rewrites one small object.
//
// What goes where is decided by upstream's own library, k8s.io/endpointslice, which sees
// our objects as the built-in kinds (docs/adr/0029-slices-by-upstreams-library.md). The
// package never touches a slice that is not labelled as its own, and none of a Service
// without a selector or of type ExternalName. Everything it writes follows from the
// Service, its Pods and their Nodes, so after a crash the first pass over all Services
// repairs what was missed; slices of Services that were deleted meanwhile have an owner
// that is gone, and the garbage collector deletes them.
package endpointslice

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	upstream "k8s.io/endpointslice"
	"k8s.io/endpointslice/topologycache"
	endpointsliceutil "k8s.io/endpointslice/util"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/servicepods"
)

const (
	// Name is the controller's name in --controllers, logs, metrics and events.
	Name = "endpointslice"
	// ManagedBy is the value of the label endpointslice.kubernetes.io/managed-by of the
	// slices that this controller writes; it is upstream's.
	ManagedBy = "endpointslice-controller.k8s.io"

	defaultConcurrency = 5
	// defaultBatchPeriod is that of the controller of Endpoints, for the same reason.
	defaultBatchPeriod = 50 * time.Millisecond
	// maxEndpointsPerSlice is upstream's default.
	maxEndpointsPerSlice = 100
)

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many Services are worked on at once; 0 means 5.
	Concurrency int
	// BatchPeriod is how long changes of Pods are collected before slices are written;
	// 0 means 50 ms.
	BatchPeriod time.Duration
	// Pods is shared with other controllers of the same manager; nil: not shared.
	Pods *servicepods.Index
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	if o.Pods == nil {
		o.Pods = &servicepods.Index{}
	}
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	if o.BatchPeriod == 0 {
		o.BatchPeriod = defaultBatchPeriod
	}
	if err := o.Pods.Register(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &discoveryv1.EndpointSlice{}, serviceIndex, serviceOfOurs); err != nil {
		return fmt.Errorf("failed to index EndpointSlices by Service: %w", err)
	}
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, Name))
	changed := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Service{}, builder.WithPredicates(changed)).
		Watches(&keelsonv1.Pod{}, servicepods.Handler(mgr.GetClient(), o.BatchPeriod)).
		Watches(&discoveryv1.EndpointSlice{}, sliceHandler(r.tracker)).
		Watches(&keelsonv1.Node{}, nodeHandler(mgr.GetClient(), r.topology)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: o.Concurrency,
			RateLimiter:             backoff.RateLimiter(),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconciler brings the slices of one Service up to date.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	// tracker tells our own writes from those of others when they are seen.
	tracker *endpointsliceutil.EndpointSliceTracker
	// triggers find what the annotation about the last change says.
	triggers *endpointsliceutil.TriggerTimeTracker
	// topology knows the share of the cluster that each zone has.
	topology *topologycache.TopologyCache
}

// NewReconciler returns a Reconciler that has seen nothing yet.
func NewReconciler(c client.Client, recorder events.EventRecorder) *Reconciler {
	return &Reconciler{
		client: c, recorder: recorder,
		tracker:  endpointsliceutil.NewEndpointSliceTracker(),
		triggers: endpointsliceutil.NewTriggerTimeTracker(),
		topology: topologycache.NewTopologyCache(),
	}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	service := &keelsonv1.Service{}
	err := r.client.Get(ctx, req.NamespacedName, service)
	switch {
	case apierrors.IsNotFound(err):
		r.forget(req)
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("failed to read the Service: %w", err)
	case !hasSlices(service):
		return ctrl.Result{}, nil
	}
	pods, err := servicepods.List(ctx, r.client, service)
	if err != nil {
		return ctrl.Result{}, err
	}
	slices, err := listSlices(ctx, r.client, req.NamespacedName)
	if err != nil {
		return ctrl.Result{}, err
	}
	if topologyMode(service) {
		if err := setNodes(ctx, r.client, r.topology); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.syncSlices(ctx, service, pods, slices)
}

// hasSlices says whether the slices of service are ours to write. A Service that has not
// been given its address and its families yet is about to change: nobody can use it, and
// its slices would be those of a headless one.
func hasSlices(service *keelsonv1.Service) bool {
	spec := &service.Spec
	return len(spec.Selector) > 0 && spec.Type != corev1.ServiceTypeExternalName &&
		spec.ClusterIP != "" && len(spec.IPFamilies) > 0
}

func (r *Reconciler) syncSlices(ctx context.Context, service *keelsonv1.Service, pods []*keelsonv1.Pod, slices []discoveryv1.EndpointSlice) error {
	logger := klog.FromContext(ctx)
	w := newWriter(ctx, r.client, slices)
	seen := upstreamService(service)
	upstreamPods := make([]*corev1.Pod, len(pods))
	for i, pod := range pods {
		upstreamPods[i] = pod.Upstream()
	}
	triggered := r.triggers.ComputeEndpointLastChangeTriggerTime(service.Namespace, seen, upstreamPods)
	library := upstream.NewReconciler(w, newNodeLister(ctx, r.client), maxEndpointsPerSlice, r.tracker, r.topology,
		&recorder{events: r.recorder, service: service}, ManagedBy, upstream.WithPreferSameTrafficDistributionEnabled(true))
	err := library.Reconcile(logger, seen, upstreamPods, w.seen(), triggered)
	if err != nil {
		if !w.outdated {
			recordUpdateFailed(r.recorder, service, err)
		}
		return fmt.Errorf("failed to sync the slices: %w", err)
	}
	if w.writes > 0 {
		logger.V(2).Info("Synced EndpointSlices", "pods", len(pods), "writes", w.writes)
		if len(pods) == 0 {
			recordNoPods(r.recorder, service)
		}
	}
	return nil
}

// forget drops what was remembered about a Service that is gone.
func (r *Reconciler) forget(req ctrl.Request) {
	r.tracker.DeleteService(req.Namespace, req.Name)
	r.triggers.DeleteService(req.Namespace, req.Name)
	for _, addressType := range addressTypes() {
		r.topology.RemoveHints(req.String(), addressType)
	}
}
