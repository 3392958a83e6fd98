// Package deployment makes Deployments real: it rolls a Pod template out over
// ReplicaSets, one per template, within the bounds of the strategy, keeps the history
// that `kubectl rollout undo` needs, and says in conditions how far it is.
//
// It must never touch Pods: it sets sizes of ReplicaSets, and reads what those report.
// It keeps no memory. Every step is planned from the objects in the API alone (plan.go,
// status.go: pure), and each write insists on the version that the plan has seen; after
// a crash, or with two managers for a moment, the next plan goes on from what was
// written.
package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "deployment"

const defaultConcurrency = 5

var kind = appsv1.GroupVersion.WithKind("Deployment")

// Options configure the controller. The zero value is good.
type Options struct {
	// Concurrency is how many Deployments are worked on at once; 0 means 5.
	Concurrency int
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr, whose client must read its own writes
// (docs/adr/0002-consistency.md).
func Add(mgr ctrl.Manager, o Options) error {
	if err := indexSets(context.Background(), mgr.GetFieldIndexer()); err != nil {
		return err
	}
	if o.Concurrency == 0 {
		o.Concurrency = defaultConcurrency
	}
	err := ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&appsv1.Deployment{}, builder.WithPredicates(ownChanges())).
		Watches(&appsv1.ReplicaSet{}, setHandler(mgr.GetClient())).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Concurrency, RateLimiter: backoff.RateLimiter()}).
		Complete(NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, Name), o))
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

// Reconciler takes one step of one Deployment.
type Reconciler struct {
	client   client.Client
	live     client.Reader
	recorder events.EventRecorder
	clock    clock.PassiveClock
}

// NewReconciler returns a Reconciler that reads through c, which must have the index
// that Add makes, and rechecks through live.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	r := &Reconciler{client: c, live: live, recorder: recorder, clock: o.Clock}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	return r
}

// scope is what one reconciliation knows.
type scope struct {
	deployment *appsv1.Deployment
	spec       settings
	plan       plan
	now        time.Time
	// created says that the current set was made.
	created bool
	// createErr is why it could not be made.
	createErr error
	// collided says that its name is taken by a ReplicaSet of another template.
	collided bool
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope{deployment: &appsv1.Deployment{}, now: r.clock.Now()}
	if err := r.client.Get(ctx, req.NamespacedName, s.deployment); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var invalid error
	if s.spec, invalid = settingsOf(s.deployment); invalid != nil {
		return ctrl.Result{}, r.refuse(ctx, s, invalid)
	}
	sets, err := r.claimSets(ctx, s)
	if err != nil {
		return ctrl.Result{}, err
	}
	s.plan = planStep(s.deployment, &s.spec, sets)
	applied, err := r.apply(ctx, s)
	if err != nil && s.createErr == nil {
		return ctrl.Result{}, err
	}
	if !applied {
		// Somebody else was faster; what they wrote arrives as an event.
		return ctrl.Result{}, nil
	}
	wait, statusErr := r.syncStatus(ctx, s)
	if err := errors.Join(err, statusErr); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// refuse says what is wrong with the spec. Only a change of it helps, which comes as an
// event.
func (r *Reconciler) refuse(ctx context.Context, s *scope, invalid error) error {
	klog.FromContext(ctx).V(2).Info("Cannot manage ReplicaSets", "reason", invalid.Error())
	changed, err := r.patchStatus(ctx, s.deployment, invalidStatus(s.deployment, invalid, s.now))
	if err == nil && changed && errors.Is(invalid, errSelectingAll) {
		recordSelectingAll(r.recorder, s.deployment)
	}
	return err
}

func (r *Reconciler) claimSets(ctx context.Context, s *scope) ([]*appsv1.ReplicaSet, error) {
	// Once more after a change: adopting is rare.
	for {
		sets, err := listSets(ctx, r.client, s.deployment)
		if err != nil {
			return nil, err
		}
		c := planClaims(s.deployment, s.spec.selector, sets)
		if changed, err := r.claim(ctx, s.deployment, c); err != nil || !changed {
			return c.mine, err
		}
	}
}

// syncStatus writes what there is to say, first the revision, which is an annotation.
func (r *Reconciler) syncStatus(ctx context.Context, s *scope) (time.Duration, error) {
	if err := r.patchRevision(ctx, s); err != nil {
		return 0, err
	}
	d := s.deployment
	status := computeStatus(statusInput{
		deployment: d, spec: &s.spec, plan: &s.plan, created: s.created, failure: s.createErr, now: s.now,
	})
	if s.collided {
		status.CollisionCount = new(valueOr(d.Status.CollisionCount, 0) + 1)
	}
	_, err := r.patchStatus(ctx, d, status)
	return nextCheck(&s.spec, &status, s.now), err
}

// patchRevision copies the revision of the current set to the Deployment. The scope has
// the newer object afterwards.
func (r *Reconciler) patchRevision(ctx context.Context, s *scope) error {
	d, current := s.deployment, s.plan.current
	if current == nil || current.want.UID == "" || d.DeletionTimestamp != nil {
		return nil
	}
	revision := current.want.Annotations[annotationRevision]
	if revision == d.Annotations[annotationRevision] {
		return nil
	}
	updated := d.DeepCopy()
	updated.Annotations = maps.Clone(d.Annotations)
	if updated.Annotations == nil {
		updated.Annotations = map[string]string{}
	}
	updated.Annotations[annotationRevision] = revision
	if err := r.client.Patch(ctx, updated, client.MergeFrom(d)); err != nil {
		return client.IgnoreNotFound(wrap(err, "failed to write the revision"))
	}
	s.deployment = updated
	return nil
}

func (r *Reconciler) patchStatus(ctx context.Context, d *appsv1.Deployment, status appsv1.DeploymentStatus) (changed bool, err error) {
	if sameStatus(&d.Status, &status) {
		return false, nil
	}
	updated := d.DeepCopy()
	updated.Status = status
	// The list of conditions is replaced as a whole.
	err = r.client.Status().Patch(ctx, updated, client.MergeFromWithOptions(d, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, wrap(err, "failed to write status")
}

// apply executes the plan: it creates the current set, then scales, then forgets. It
// stops at the first failure. applied is false when a write was refused because the plan
// was made from something old.
func (r *Reconciler) apply(ctx context.Context, s *scope) (applied bool, err error) {
	if s.plan.creates() {
		if applied, err := r.create(ctx, s); !applied || err != nil || s.collided {
			return applied, err
		}
	}
	for _, set := range s.plan.all() {
		if !set.changed() {
			continue
		}
		from, to := set.sizeBefore(), set.size()
		set.want = set.want.DeepCopy()
		err := r.client.Patch(ctx, set.want, client.MergeFromWithOptions(set.have, client.MergeFromWithOptimisticLock{}))
		switch {
		case apierrors.IsNotFound(err):
			return false, nil
		case err != nil:
			return false, wrap(err, "failed to scale ReplicaSet "+set.have.Name)
		case from != to:
			klog.FromContext(ctx).V(2).Info("Scaled a ReplicaSet", "replicaSet", klog.KObj(set.have), "from", from, "to", to, "reason", s.plan.reason)
			recordScaled(r.recorder, s.deployment, set.want, from, to)
		}
	}
	for _, old := range s.plan.remove {
		err := r.client.Delete(ctx, old, client.Preconditions{UID: &old.UID, ResourceVersion: &old.ResourceVersion})
		if client.IgnoreNotFound(err) != nil {
			return false, wrap(err, "failed to delete ReplicaSet "+old.Name)
		}
	}
	return true, nil
}

func (r *Reconciler) create(ctx context.Context, s *scope) (applied bool, err error) {
	rs := s.plan.current.want
	err = r.client.Create(ctx, rs)
	switch {
	case err == nil:
		s.created = true
		if size := s.plan.current.size(); size > 0 {
			recordScaled(r.recorder, s.deployment, rs, 0, size)
		}
		return true, nil
	case apierrors.IsAlreadyExists(err):
		return r.resolveName(ctx, s)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		// Every attempt would be refused, and nobody needs to be told.
		return false, nil
	}
	s.createErr = err
	recordCreateFailed(r.recorder, s.deployment, rs.Name, err)
	return true, wrap(err, "failed to create ReplicaSet "+rs.Name)
}

// resolveName finds out who has the name of the current set: the set itself, made by
// somebody who was faster, or one of another template with the same hash.
func (r *Reconciler) resolveName(ctx context.Context, s *scope) (applied bool, err error) {
	var taken appsv1.ReplicaSet
	err = r.live.Get(ctx, client.ObjectKeyFromObject(s.plan.current.want), &taken)
	if apierrors.IsNotFound(err) {
		return false, fmt.Errorf("ReplicaSet %s was there and is gone: trying again", s.plan.current.want.Name)
	}
	if err != nil {
		return false, wrap(err, "failed to read ReplicaSet "+s.plan.current.want.Name)
	}
	if isOurs(s.deployment, s.spec.selector, &taken) && sameTemplate(&s.deployment.Spec.Template, &taken.Spec.Template) {
		return false, nil
	}
	klog.FromContext(ctx).V(2).Info("Another template has the same hash", "replicaSet", klog.KObj(&taken))
	s.collided = true
	s.plan.current = nil
	return true, nil
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
