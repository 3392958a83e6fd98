// Package daemonset makes DaemonSets real: one Pod on every node that is eligible,
// replaced as spec.updateStrategy says when the template changes.
//
// It must never bind a Pod: it asks for a node by affinity, and the scheduler binds.
// It must never touch Pods of a node that is gone and that had been bound: the Pod
// garbage collector does. What it did before a crash is found in the API; only the
// waiting times of failing Pods are kept in memory, and begin anew.
package daemonset

import (
	"context"
	"errors"
	"fmt"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/history"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "daemonset"

const defaultConcurrency = 2

var kind = appsv1.GroupVersion.WithKind("DaemonSet")

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many DaemonSets are worked on at once; 0 means 2.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.WithTicker
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md), else Pods are created twice.
func Add(mgr ctrl.Manager, o Options) error {
	ctx := context.Background()
	if err := podcontrol.IndexPods(ctx, mgr.GetFieldIndexer(), kind.GroupKind()); err != nil {
		return err
	}
	if err := history.Index(ctx, mgr.GetFieldIndexer(), kind.GroupKind()); err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, Name), o)
	if err := mgr.Add(manager.RunnableFunc(r.forgetOldFailures)); err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	w := watches{reader: mgr.GetClient()}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&appsv1.DaemonSet{}, builder.WithPredicates(ownChanges())).
		Watches(&keelsonv1.Pod{}, w.dependents()).
		Watches(&appsv1.ControllerRevision{}, w.dependents()).
		Watches(&keelsonv1.Node{}, w.nodes()).
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

// Reconciler brings one DaemonSet closer to its spec.
type Reconciler struct {
	client      client.Client
	pods        podcontrol.Control
	history     history.Control
	recorder    events.EventRecorder
	clock       clock.WithTicker
	failures    *flowcontrol.Backoff
	concurrency int
}

// NewReconciler returns a Reconciler that reads through c, which must have the indexes
// that Add makes, and rechecks owners through live.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	pods := podcontrol.For(c, live, recorder)
	r := &Reconciler{
		client:      c,
		pods:        pods,
		history:     history.Control{Pods: pods, HashLabel: upstreamappsv1.DefaultDaemonSetUniqueLabelKey},
		recorder:    recorder,
		clock:       o.Clock,
		concurrency: o.Concurrency,
	}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	if r.concurrency == 0 {
		r.concurrency = defaultConcurrency
	}
	r.failures = newFailures(r.clock)
	return r
}

// scope is what one reconciliation knows.
type scope struct {
	ds      *appsv1.DaemonSet
	owner   history.Owner
	history *history.History
	in      input
	plan    plan
	// wait is when to look again without an event; 0 means not at all.
	wait time.Duration
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope{ds: &appsv1.DaemonSet{}}
	if err := r.client.Get(ctx, req.NamespacedName, s.ds); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if s.ds.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	if problem := s.setOwner(); problem != nil {
		// Only a change of the spec helps, and it comes as an event.
		recordInvalid(r.recorder, s.ds, problem)
		return ctrl.Result{}, nil
	}
	err := r.observe(ctx, s)
	switch {
	case errors.Is(err, podcontrol.ErrNamespaceTerminating):
		// The DaemonSet goes too.
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	applyErr := r.apply(ctx, s)
	statusErr := r.syncStatus(ctx, s)
	if err := errors.Join(applyErr, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: s.wait}, nil
}

// setOwner checks what admission would have refused.
func (s *scope) setOwner() *problem {
	selector, problem := selectorOf(s.ds)
	if problem != nil {
		return problem
	}
	s.owner = history.Owner{
		Owner:          podcontrol.Owner{Object: s.ds, Kind: kind},
		Selector:       selector,
		Template:       &s.ds.Spec.Template,
		CollisionCount: s.ds.Status.CollisionCount,
	}
	return nil
}

// observe reads what the plan depends on, claims what is the DaemonSet's, and plans.
func (r *Reconciler) observe(ctx context.Context, s *scope) error {
	var err error
	if s.history, err = r.history.Sync(ctx, s.owner); err != nil {
		return err
	}
	pods, err := podcontrol.ListPods(ctx, r.client, s.owner.Owner)
	if err != nil {
		return err
	}
	claims := podcontrol.PlanClaims(s.owner.Owner, s.owner.Selector, pods)
	if err := r.pods.Claim(ctx, s.owner.Owner, claims); err != nil {
		return err
	}
	var nodes keelsonv1.NodeList
	// Nobody here writes Nodes, and those who do need not be waited for.
	if err := r.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency); err != nil {
		return fmt.Errorf("failed to list Nodes: %w", err)
	}
	places := placesOf(eligibilityOf(&s.ds.Spec), nodes.Items, claims.Mine)
	limits, err := limitsOf(&s.ds.Spec, desired(places))
	if err != nil {
		return err
	}
	s.in = input{
		places: places, limits: limits, latest: latestFunc(s.history),
		minReadySeconds: s.ds.Spec.MinReadySeconds, now: r.clock.Now(),
		hold: func(node string) bool { return r.held(s.ds, node) },
	}
	s.plan = makePlan(s.in)
	return nil
}

// latestFunc asks the history once for each hash: Pods share few.
func latestFunc(h *history.History) func(*keelsonv1.Pod) bool {
	known := map[string]bool{}
	return func(pod *keelsonv1.Pod) bool {
		hash := pod.Labels[upstreamappsv1.DefaultDaemonSetUniqueLabelKey]
		latest, ok := known[hash]
		if !ok {
			latest = h.IsLatest(hash)
			known[hash] = latest
		}
		return latest
	}
}

func (r *Reconciler) syncStatus(ctx context.Context, s *scope) error {
	status, wait := computeStatus(s.ds, s.in, s.history.CollisionCount)
	s.wait = sooner(s.wait, wait)
	if statusEqual(&s.ds.Status, &status) {
		return nil
	}
	updated := s.ds.DeepCopy()
	updated.Status = status
	err := r.client.Status().Patch(ctx, updated, client.MergeFrom(s.ds))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("failed to write status: %w", err)
	}
	return nil
}

// sooner returns the shorter of two waits; 0 means none.
func sooner(a, b time.Duration) time.Duration {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	default:
		return min(a, b)
	}
}

func isEmpty(selector *metav1.LabelSelector) bool {
	return selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0
}
