// Package podautoscaler makes HorizontalPodAutoscalers real: every fifteen seconds it
// reads what the Pods of a workload use, computes how many of them the targets ask for,
// and writes that into the workload's scale, within the limits and at the rates that the
// autoscaler allows.
//
// It never creates or deletes a Pod, and never writes anything of a workload but its
// scale. What it did and recommended before, which windows and rates are counted from, it
// remembers in memory alone, as upstream does: a new process begins with the number of
// replicas that it finds as its first recommendation, so that a scale-down waits for a
// whole window after a restart, and rates count from anew.
package podautoscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	autoscalingv2 "github.com/keelson-dev/keelson/apis/autoscaling/v2"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/repeats"
)

// Name is the controller's name in --controllers, logs and metrics.
const Name = "horizontalpodautoscaling"

// reporter is who events are from, as upstream says it.
const reporter = "horizontal-pod-autoscaler"

// Options configure the controller. Zero values are upstream's defaults.
type Options struct {
	// Resources says what Pods use; required.
	Resources ResourceMetrics
	// Custom reads all other metrics; nil means that there are none.
	Custom CustomMetrics
	// Period is the time between two looks at one autoscaler: 15 s.
	Period time.Duration
	// Tolerance is how far the use may be from the target, as a share of it, where an
	// autoscaler does not say: 0.1.
	Tolerance float64
	// DownscaleStabilization is for how long a recommendation holds a scale-down back
	// where an autoscaler does not say: 5 min.
	DownscaleStabilization time.Duration
	// CPUInitialization is how long after its start a Pod's CPU counts only while it is
	// ready: 5 min.
	CPUInitialization time.Duration
	// InitialReadinessDelay is within what a Pod that is not ready counts as never having
	// been: 30 s.
	InitialReadinessDelay time.Duration
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// syncs is how many autoscalers are looked at at once: they wait for agents.
const syncs = 5

func (o Options) withDefaults() Options {
	o.Period = orDefault(o.Period, 15*time.Second)
	o.Tolerance = orDefault(o.Tolerance, 0.1)
	o.DownscaleStabilization = orDefault(o.DownscaleStabilization, 5*time.Minute)
	o.CPUInitialization = orDefault(o.CPUInitialization, 5*time.Minute)
	o.InitialReadinessDelay = orDefault(o.InitialReadinessDelay, 30*time.Second)
	if o.Custom == nil {
		o.Custom = noCustomMetrics{}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return o
}

func orDefault[T comparable](value, fallback T) T {
	if value == *new(T) {
		return fallback
	}
	return value
}

// Add registers the controller with mgr. A change of an autoscaler's spec is looked at at
// once, everything else with the next period.
func Add(mgr ctrl.Manager, o Options) error {
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, reporter), o)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&autoscalingv2.HorizontalPodAutoscaler{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{RateLimiter: periodically{r.options.Period}, MaxConcurrentReconciles: syncs}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// periodically tries again what failed when its next look is due, never sooner.
type periodically struct{ period time.Duration }

var _ workqueue.TypedRateLimiter[reconcile.Request] = periodically{}

func (p periodically) When(reconcile.Request) time.Duration { return p.period }
func (periodically) Forget(reconcile.Request)               {}
func (periodically) NumRequeues(reconcile.Request) int      { return 0 }

// Reconciler looks at one autoscaler.
type Reconciler struct {
	client    client.Client
	recorder  events.EventRecorder
	resources ResourceMetrics
	custom    CustomMetrics
	options   Options
	memory    *memory
}

// NewReconciler returns a Reconciler that reads and writes through c.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	o = o.withDefaults()
	return &Reconciler{client: c, recorder: repeats.Spare(recorder, o.Clock), resources: o.Resources, custom: o.Custom, options: o, memory: newMemory()}
}

// scope is one look at one autoscaler.
type scope struct {
	hpa        *autoscalingv2.HorizontalPodAutoscaler
	spec       *upstreamautoscalingv2.HorizontalPodAutoscalerSpec // with defaults
	status     *upstreamautoscalingv2.HorizontalPodAutoscalerStatus
	remembered *remembered
	now        time.Time
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	hpa := &autoscalingv2.HorizontalPodAutoscaler{}
	if err := r.client.Get(ctx, req.NamespacedName, hpa); err != nil {
		if err = client.IgnoreNotFound(err); err == nil {
			r.memory.forget(req.NamespacedName)
		}
		return ctrl.Result{}, err
	}
	s := &scope{
		hpa:        hpa,
		spec:       specOf(&hpa.Spec),
		status:     hpa.Status.HorizontalPodAutoscalerStatus.DeepCopy(),
		remembered: r.memory.of(req.NamespacedName, hpa.UID),
		now:        r.options.Clock.Now(),
	}
	s.status.ObservedGeneration = new(hpa.Generation)
	err := r.sync(ctx, s)
	if err := errors.Join(err, r.writeStatus(ctx, s)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: r.options.Period}, nil
}

// sync reads the scale, decides, and writes the scale. What there is to say about it is
// in s.status, whatever it returns.
func (r *Reconciler) sync(ctx context.Context, s *scope) error {
	target, err := r.readScale(ctx, s.hpa.Namespace, s.spec.ScaleTargetRef)
	if err != nil {
		recordFailed(r.recorder, s.hpa, "FailedGetScale", err.Error())
		s.set(upstreamautoscalingv2.AbleToScale, corev1.ConditionFalse, finding{"FailedGetScale", fmt.Sprintf("the HPA controller was unable to get the target's current scale: %v", err)})
		return fmt.Errorf("failed to query scale subresource for %s: %w", s.reference(), err)
	}
	s.set(upstreamautoscalingv2.AbleToScale, corev1.ConditionTrue, finding{"SucceededGetScale", "the HPA controller was able to get the target's current scale"})
	current := target.scale.Spec.Replicas
	if s.remembered.history.recommendations == nil {
		s.remembered.history.recommendations = []recommendation{{current, s.now}}
	}
	s.status.CurrentReplicas = current

	d, err := r.decide(ctx, s, target)
	if err != nil && d == nil {
		recordFailed(r.recorder, s.hpa, "FailedComputeMetricsReplicas", err.Error())
		return fmt.Errorf("failed to compute desired number of replicas based on listed metrics for %s: %w", s.reference(), err)
	}
	// An error beside a decision: some metrics could not be read, the others scale up.
	if d.replicas == current {
		s.status.DesiredReplicas = current
		return err
	}
	return errors.Join(err, r.rescale(ctx, s, target, d))
}

// rescale writes the scale and remembers that it did.
func (r *Reconciler) rescale(ctx context.Context, s *scope, target *found, d *decision) error {
	current := s.status.CurrentReplicas
	if err := r.writeScale(ctx, target, d.replicas); err != nil {
		recordNotRescaled(r.recorder, s.hpa, d.replicas, d.reason, err)
		s.set(upstreamautoscalingv2.AbleToScale, corev1.ConditionFalse, finding{"FailedUpdateScale", fmt.Sprintf("the HPA controller was unable to update the target scale: %v", err)})
		return fmt.Errorf("failed to rescale %s: %w", s.reference(), err)
	}
	recordRescaled(r.recorder, s.hpa, d.replicas, d.reason)
	s.remembered.history.scaled(current, d.replicas, s.spec.Behavior, s.now)
	s.rescaled(current, d.replicas)
	klog.FromContext(ctx).Info("Rescaled", "target", s.reference(), "from", current, "to", d.replicas, "reason", d.reason)
	return nil
}

func (s *scope) reference() string {
	return fmt.Sprintf("%s/%s/%s", s.spec.ScaleTargetRef.Kind, s.hpa.Namespace, s.spec.ScaleTargetRef.Name)
}
