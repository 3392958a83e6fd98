package replicas

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Reconciler brings one owner closer to its spec: the frame that the controllers of
// every kind share.
type Reconciler[T client.Object] struct {
	kind   Kind[T]
	client client.Client
	engine Engine
	clock  clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads through c, which must have the indexes
// that Add makes, and rechecks owners through live.
func NewReconciler[T client.Object](c client.Client, live client.Reader, recorder events.EventRecorder, kind Kind[T], o Options) *Reconciler[T] {
	r := &Reconciler[T]{kind: kind, client: c, engine: Engine{Control: podcontrol.For(c, live, recorder)}, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	return r
}

// scope is what one reconciliation knows.
type scope[T client.Object] struct {
	object T
	owner  Owner
	rivals []string
	plan   Plan
	now    time.Time
	// counted says that the plan can be trusted for status.
	counted bool
	// failure is why the wanted count could not be reached.
	failure error
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler[T]) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope[T]{object: r.kind.New(), now: r.clock.Now()}
	if err := r.client.Get(ctx, req.NamespacedName, s.object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	s.owner = r.kind.Owner(s.object)

	syncErr := r.syncPods(ctx, s)
	wait, statusErr := r.syncStatus(ctx, s)
	if err := errors.Join(syncErr, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

func (r *Reconciler[T]) syncPods(ctx context.Context, s *scope[T]) error {
	if invalid := s.owner.Validate(); invalid != nil {
		// Nothing to retry: only a change of the spec helps, and it comes as an event.
		s.counted, s.failure = true, invalid
		klog.FromContext(ctx).V(2).Info("Cannot manage Pods", "reason", invalid.Error())
		return nil
	}
	rivals, err := r.kind.listRivals(ctx, r.client, s.object)
	if err != nil {
		return err
	}
	s.rivals = rivals
	if err := r.plan(ctx, s); err != nil {
		return err
	}
	if err := r.engine.Claim(ctx, &s.owner, &s.plan); err != nil {
		return err
	}
	s.counted = true
	s.failure = r.engine.Scale(ctx, &s.owner, &s.plan)
	return s.failure
}

// plan gathers and decides. The Pods of siblings matter for the choice of victims only.
func (r *Reconciler[T]) plan(ctx context.Context, s *scope[T]) error {
	pods, err := podcontrol.ListPods(ctx, r.client, s.owner.Owner)
	if err != nil {
		return err
	}
	in := Input{Owner: s.owner, Pods: pods, Now: s.now}
	s.plan = MakePlan(in)
	if r.kind.Related == nil || len(s.plan.Delete) == 0 || len(s.plan.Delete) == len(s.plan.Active) {
		return nil
	}
	if in.Related, err = r.kind.Related(ctx, r.client, s.object); err != nil {
		return err
	}
	s.plan = MakePlan(in)
	return nil
}

func (r *Reconciler[T]) syncStatus(ctx context.Context, s *scope[T]) (wait time.Duration, err error) {
	if !s.counted {
		return 0, nil
	}
	counts := Count(s.plan.Active, s.owner.templateLabels(), s.owner.MinReadySeconds, s.now)
	had := r.kind.Status(s.object)
	status := computeStatus(statusInput{
		Had: had, Generation: s.object.GetGeneration(), Counts: counts, Plan: &s.plan,
		Failure: s.failure, Rivals: s.rivals, Now: s.now,
	})
	if r.kind.CountTerminating {
		status.TerminatingReplicas = new(s.plan.Terminating)
	}
	updated, ok := s.object.DeepCopyObject().(T)
	if !ok {
		return 0, fmt.Errorf("%T copies itself as another type", s.object)
	}
	r.kind.SetStatus(updated, status)
	if r.kind.SameStatus(updated, s.object) {
		return counts.NextAvailable, nil
	}
	err = r.client.Status().Patch(ctx, updated, client.MergeFrom(s.object))
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("failed to write status: %w", err)
	}
	if err == nil && sharedNow(had, status) {
		recordShared(r.engine.Recorder, s.object, s.rivals)
	}
	return counts.NextAvailable, nil
}
