// Package statefulset makes StatefulSets real: Pods with names and host names that
// stay, started, updated and stopped in the order of their numbers unless the user
// lets them go in parallel.
//
// It must never have two Pods of one number: the name of a Pod is its number, and a
// Pod that is being deleted keeps its name until its node has let go of it. It must
// never pass over a Pod that is not healthy where order is asked for. It keeps no
// memory; after a crash names, labels and ControllerRevisions in the API say what was
// done. Claims of storage (volumeClaimTemplates) are refused at admission.
package statefulset

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/history"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "statefulset"

const (
	defaultConcurrency = 5
	// revisionHashLabel is the label of a StatefulSet's ControllerRevisions.
	revisionHashLabel = "controller.kubernetes.io/hash"
)

var kind = appsv1.GroupVersion.WithKind("StatefulSet")

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many StatefulSets are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	ctx := context.Background()
	if err := podcontrol.IndexPods(ctx, mgr.GetFieldIndexer(), kind.GroupKind()); err != nil {
		return err
	}
	if err := history.Index(ctx, mgr.GetFieldIndexer(), kind.GroupKind()); err != nil {
		return err
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, Name), o)
	w := watches{reader: mgr.GetClient()}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&appsv1.StatefulSet{}, builder.WithPredicates(ownChanges())).
		Watches(&keelsonv1.Pod{}, w.pods()).
		Watches(&appsv1.ControllerRevision{}, w.revisions()).
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

// Reconciler brings one StatefulSet closer to its spec.
type Reconciler struct {
	client      client.Client
	pods        podcontrol.Control
	history     history.Control
	recorder    events.EventRecorder
	clock       clock.PassiveClock
	concurrency int
}

// NewReconciler returns a Reconciler that reads through c, which must have the indexes
// that Add makes, and rechecks owners through live.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	// The words of a StatefulSet's events differ from those of other workloads.
	pods := podcontrol.For(c, live, silent{})
	r := &Reconciler{
		client: c, pods: pods, recorder: recorder, clock: o.Clock, concurrency: o.Concurrency,
		history: history.Control{Pods: pods, HashLabel: revisionHashLabel},
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
	set      *appsv1.StatefulSet
	owner    podcontrol.Owner
	selector labels.Selector
	spec     settings
	// history is nil for a StatefulSet that is being deleted: nothing is written then.
	history *history.History
	names   revisions
	pods    []*keelsonv1.Pod
	plan    plan
	now     time.Time
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope{set: &appsv1.StatefulSet{}, now: r.clock.Now()}
	if err := r.client.Get(ctx, req.NamespacedName, s.set); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := s.setOwner(); err != nil {
		// Only a change of the spec helps, and it comes as an event.
		recordInvalid(r.recorder, s.set, err)
		return ctrl.Result{}, nil
	}
	err := r.observe(ctx, s)
	switch {
	case errors.Is(err, podcontrol.ErrNamespaceTerminating):
		// The StatefulSet goes too.
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	applyErr := r.apply(ctx, s)
	wait, statusErr := r.syncStatus(ctx, s)
	if err := errors.Join(applyErr, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

func (s *scope) setOwner() (err error) {
	s.owner = podcontrol.Owner{Object: s.set, Kind: kind}
	if s.selector, err = selectorOf(s.set); err != nil {
		return err
	}
	s.spec, err = settingsOf(s.set)
	return err
}

// observe claims what is the StatefulSet's, reads what the plan depends on, and plans.
func (r *Reconciler) observe(ctx context.Context, s *scope) error {
	if err := r.observeHistory(ctx, s); err != nil {
		return err
	}
	found, err := podcontrol.ListPods(ctx, r.client, s.owner)
	if err != nil {
		return err
	}
	claims := planClaims(s.owner, s.selector, found)
	if err := r.pods.Claim(ctx, s.owner, claims); err != nil {
		return err
	}
	s.pods = claims.Mine
	if s.set.DeletionTimestamp == nil {
		s.plan = makePlan(input{settings: s.spec, revisions: s.names, pods: s.pods, now: s.now})
		if s.plan.waitsFor != "" {
			klog.FromContext(ctx).V(4).Info("Waiting for a Pod before the next one", "reason", s.plan.waitsFor)
		}
	}
	return nil
}

func (r *Reconciler) observeHistory(ctx context.Context, s *scope) error {
	if s.set.DeletionTimestamp != nil {
		s.names = revisions{current: s.set.Status.CurrentRevision, update: s.set.Status.UpdateRevision}
		return nil
	}
	h, err := r.history.Sync(ctx, history.Owner{
		Owner: s.owner, Selector: s.selector, Template: &s.set.Spec.Template, CollisionCount: s.set.Status.CollisionCount,
	})
	if err != nil {
		return err
	}
	s.history = h
	s.names = revisions{current: h.Latest.Name, update: h.Latest.Name}
	if h.Find(s.set.Status.CurrentRevision) != nil {
		s.names.current = s.set.Status.CurrentRevision
	}
	return nil
}

// template returns the template of a revision.
func (s *scope) template(revision string) (*corev1.PodTemplateSpec, error) {
	if revision == s.names.update {
		return &s.set.Spec.Template, nil
	}
	found := s.history.Find(revision)
	if found == nil {
		return nil, fmt.Errorf("ControllerRevision %s of StatefulSet %s is gone", revision, klog.KObj(s.set))
	}
	return history.Template(found)
}

func (r *Reconciler) syncStatus(ctx context.Context, s *scope) (wait time.Duration, err error) {
	status, wait := computeStatus(s)
	if statusEqual(&s.set.Status, &status) {
		return wait, nil
	}
	updated := s.set.DeepCopy()
	updated.Status = status
	err = r.client.Status().Patch(ctx, updated, client.MergeFrom(s.set))
	if client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("failed to write status: %w", err)
	}
	return wait, nil
}

// selectorOf returns the selector of set, or what is wrong with it.
func selectorOf(set *appsv1.StatefulSet) (labels.Selector, error) {
	selector, err := metav1.LabelSelectorAsSelector(set.Spec.Selector)
	switch {
	case err != nil:
		return nil, fmt.Errorf("spec.selector: %w", err)
	case selector.Empty():
		return nil, errors.New("spec.selector: empty selector is invalid for statefulset")
	case !selector.Matches(labels.Set(set.Spec.Template.Labels)):
		return nil, errors.New("spec.template.metadata.labels: `selector` does not match template `labels`")
	}
	return selector, nil
}
