// Package disruption keeps the status of PodDisruptionBudgets: how many Pods of an
// application are healthy, how many have to be, and so how many evictions are allowed.
//
// It evicts nothing and stops nothing: evictions (the gateway's) spend what the status
// allows, and write down which Pods they spent it on; this package takes those off the
// count until they are gone. It also takes back the condition DisruptionTarget of Pods
// that nobody deleted after all. It keeps no state; after a crash every budget is
// computed again.
package disruption

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "disruption"

// Options configure the controller. The zero value is good.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, Name), o)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&policyv1.PodDisruptionBudget{}, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&keelsonv1.Pod{}, budgetsOfPod(r.client)).
		Watches(&keelsonv1.ReplicationController{}, budgetsOfOwner(r.client), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&appsv1.ReplicaSet{}, budgetsOfOwner(r.client), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&appsv1.Deployment{}, budgetsOfOwner(r.client), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&appsv1.StatefulSet{}, budgetsOfOwner(r.client), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return addStale(mgr, r.client, r.clock)
}

// Reconciler computes one budget.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	clock    clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads and writes through c.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{client: c, recorder: recorder, clock: o.Clock}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	budget := &policyv1.PodDisruptionBudget{}
	if err := r.client.Get(ctx, req.NamespacedName, budget); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	seen, err := r.gather(ctx, budget)
	if err != nil {
		recordFailed(r.recorder, budget, err)
		return ctrl.Result{}, errors.Join(err, r.writeStatus(ctx, budget, failedStatus(budget, err)))
	}
	status, next := computeStatus(budget, seen, r.clock.Now())
	if err := r.writeStatus(ctx, budget, status); err != nil {
		return ctrl.Result{}, err
	}
	if !statusEqual(&budget.Status, &status) {
		r.recordFindings(budget, seen)
	}
	return ctrl.Result{RequeueAfter: next}, nil
}

// gather reads the Pods of the budget and the scale of their owners.
func (r *Reconciler) gather(ctx context.Context, budget *policyv1.PodDisruptionBudget) (observed, error) {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return observed{}, fmt.Errorf("spec.selector: %w", err)
	}
	var list keelsonv1.PodList
	err = r.client.List(ctx, &list, client.InNamespace(budget.Namespace), client.MatchingLabelsSelector{Selector: selector}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return observed{}, fmt.Errorf("list the Pods: %w", err)
	}
	seen := observed{pods: make([]*keelsonv1.Pod, 0, len(list.Items))}
	for i := range list.Items {
		seen.pods = append(seen.pods, &list.Items[i])
	}
	if needsScale(&budget.Spec) {
		seen.scale, seen.unmanaged, err = r.scaleOfOwners(ctx, seen.pods)
	}
	return seen, err
}

// recordFindings tells what is odd about the Pods, once for each status.
func (r *Reconciler) recordFindings(budget *policyv1.PodDisruptionBudget, seen observed) {
	if len(seen.pods) == 0 {
		recordNoPods(r.recorder, budget)
	}
	if len(seen.unmanaged) > 0 {
		recordUnmanaged(r.recorder, budget)
	}
	for _, pod := range overdue(budget.Status.DisruptedPods, seen.pods, r.clock.Now()) {
		recordNotDeleted(r.recorder, budget, pod)
	}
}

func (r *Reconciler) writeStatus(ctx context.Context, budget *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if statusEqual(&budget.Status, &status) {
		return nil
	}
	updated := budget.DeepCopy()
	updated.Status = status
	// The version that was computed from: an eviction may have spent from it since.
	if err := r.client.Status().Update(ctx, updated); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to write status: %w", err)
	}
	return nil
}

// deletionTimeout is how long a Pod that an eviction spent from the budget for may take
// to be marked as being deleted; upstream's.
const deletionTimeout = 2 * time.Minute
