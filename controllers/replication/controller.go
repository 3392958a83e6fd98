// Package replication makes ReplicationControllers real: it keeps exactly
// spec.replicas Pods that match the selector, adopting and releasing Pods as their
// labels change, and reports on them in status.
//
// It must never start or stop anything on a node: it creates and deletes Pod
// objects, and whoever watches those does the rest. It keeps no memory; after a
// crash the next reconciliation finds in the API what was done and does what is
// missing. The arithmetic is controllers/internal/replicas, shared with ReplicaSet.
package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/controllers/internal/replicas"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "replication"

const defaultConcurrency = 5

var kind = keelsonv1.GroupVersion.WithKind("ReplicationController")

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many ReplicationControllers are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
//
// mgr's client must read its own writes (docs/adr/0002-consistency.md), else Pods
// are created twice.
func Add(mgr ctrl.Manager, o Options) error {
	if err := podcontrol.IndexPods(context.Background(), mgr.GetFieldIndexer(), kind.GroupKind()); err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), mgr.GetEventRecorder(Name), o)
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.ReplicationController{}, builder.WithPredicates(ownChanges())).
		Watches(&keelsonv1.Pod{}, podHandler(mgr.GetClient())).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.concurrency,
			RateLimiter:             backoff.RateLimiter(),
		}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconciler brings one ReplicationController closer to its spec.
type Reconciler struct {
	client      client.Client
	engine      replicas.Engine
	clock       clock.PassiveClock
	concurrency int
}

// NewReconciler returns a Reconciler that reads through c, which must have the index
// that Add makes, and rechecks owners through live.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{
		client:      c,
		engine:      replicas.Engine{Control: podcontrol.For(c, live, recorder)},
		clock:       o.Clock,
		concurrency: o.Concurrency,
	}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	if r.concurrency == 0 {
		r.concurrency = defaultConcurrency
	}
	return r
}

// scope is what one reconciliation knows.
type scope struct {
	rc    *keelsonv1.ReplicationController
	owner replicas.Owner
	plan  replicas.Plan
	now   time.Time
	// counted says that plan.Active can be trusted for status.
	counted bool
	// failure is why the wanted count could not be reached.
	failure error
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope{rc: &keelsonv1.ReplicationController{}, now: r.clock.Now()}
	if err := r.client.Get(ctx, req.NamespacedName, s.rc); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s.owner = ownerOf(s.rc)

	syncErr := r.syncPods(ctx, s)
	wait, statusErr := r.syncStatus(ctx, s)
	if err := errors.Join(syncErr, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

func (r *Reconciler) syncPods(ctx context.Context, s *scope) error {
	if invalid := s.owner.Validate(); invalid != nil {
		// Nothing to retry: only a change of the spec helps, and it comes as an event.
		s.counted, s.failure = true, invalid
		klog.FromContext(ctx).V(2).Info("Cannot manage Pods", "reason", invalid.Error())
		return nil
	}
	pods, err := podcontrol.ListPods(ctx, r.client, s.owner.Owner)
	if err != nil {
		return err
	}
	s.plan = replicas.MakePlan(replicas.Input{Owner: s.owner, Pods: pods, Now: s.now})
	if err := r.engine.Claim(ctx, &s.owner, &s.plan); err != nil {
		return err
	}
	s.counted = true
	s.failure = r.engine.Scale(ctx, &s.owner, &s.plan)
	return s.failure
}

func (r *Reconciler) syncStatus(ctx context.Context, s *scope) (wait time.Duration, err error) {
	if !s.counted {
		return 0, nil
	}
	counts := replicas.Count(s.plan.Active, templateLabels(s.rc), s.rc.Spec.MinReadySeconds, s.now)
	status := computeStatus(s.rc, counts, &s.plan, s.failure, s.now)
	if statusEqual(&s.rc.Status, &status) {
		return counts.NextAvailable, nil
	}
	updated := s.rc.DeepCopy()
	updated.Status = status
	err = r.client.Status().Patch(ctx, updated, client.MergeFrom(s.rc))
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("failed to write status: %w", err)
	}
	return counts.NextAvailable, nil
}

// ownerOf reads rc with the defaults that admission would have written.
func ownerOf(rc *keelsonv1.ReplicationController) replicas.Owner {
	owner := replicas.Owner{
		Owner:    podcontrol.Owner{Object: rc, Kind: kind},
		Selector: labels.SelectorFromSet(selectorOf(rc)),
		Replicas: 1,
		Template: rc.Spec.Template,
	}
	if rc.Spec.Replicas != nil {
		owner.Replicas = *rc.Spec.Replicas
	}
	return owner
}

func selectorOf(rc *keelsonv1.ReplicationController) map[string]string {
	if len(rc.Spec.Selector) == 0 {
		return templateLabels(rc)
	}
	return rc.Spec.Selector
}

func templateLabels(rc *keelsonv1.ReplicationController) map[string]string {
	if rc.Spec.Template == nil {
		return nil
	}
	return rc.Spec.Template.Labels
}

// replicaFailure is the one condition type of a ReplicationController.
const replicaFailure = corev1.ReplicationControllerReplicaFailure
