// Package podgc releases the Pods that no agent will ever end: those of Nodes that
// no longer exist, deleted ones of Nodes that a person has declared out of service, and
// deleted ones that were never bound. Nobody else would take the finalizer
// keelson.dev/pod off them. It also deletes the oldest Pods that have ended when there
// are very many.
//
// A bound Pod is released only after its Node has been absent for a while and is
// still absent when read live. It is deleted with its UID as a condition, and only
// our own finalizer is taken off, from the Pod as it was just read. It holds no
// state worth keeping: after a crash the waiting time starts again.
package podgc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/backoff"
)

// DefaultQuarantine is how long a Node may be absent before its Pods are released;
// the value is upstream's.
const DefaultQuarantine = 40 * time.Second

// byNode indexes Pods in the cache.
const byNode = "podgc.spec.nodeName"

// Options are what the controller can be told.
type Options struct {
	// Quarantine is how long a Node may be absent; 0 means DefaultQuarantine.
	Quarantine time.Duration
	// TerminatedThreshold is how many Pods that have ended may stay; 0 means all.
	TerminatedThreshold int
	// Clock measures it; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler looks at one Node name at a time.
type Reconciler struct {
	releaser
	options Options

	mu     sync.Mutex
	absent map[string]time.Time
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	if o.Quarantine == 0 {
		o.Quarantine = DefaultQuarantine
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, byNode, nodesOf); err != nil {
		return fmt.Errorf("index Pods by node: %w", err)
	}
	releaser := releaser{client: mgr.GetClient(), live: mgr.GetAPIReader(), clock: o.Clock}
	err := errors.Join(addUnbound(mgr, releaser), addOutOfService(mgr, releaser), addTerminated(mgr, o.TerminatedThreshold))
	if err != nil {
		return err
	}
	r := &Reconciler{releaser: releaser, options: o, absent: map[string]time.Time{}}
	return ctrl.NewControllerManagedBy(mgr).
		Named("podgc").
		For(&keelsonv1.Node{}, builder.WithPredicates(comesOrGoes())).
		Watches(&keelsonv1.Pod{}, handler.EnqueueRequestsFromMapFunc(toNode), builder.WithPredicates(newlyBound())).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(r)
}

func nodesOf(o client.Object) []string {
	if pod, ok := o.(*keelsonv1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}
	}
	return nil
}

// comesOrGoes leaves out heartbeats.
func comesOrGoes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }}
}

// newlyBound lets through Pods whose Node may never have existed.
func newlyBound() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, okBefore := e.ObjectOld.(*keelsonv1.Pod)
			now, ok := e.ObjectNew.(*keelsonv1.Pod)
			return ok && okBefore && before.Spec.NodeName != now.Spec.NodeName
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

func toNode(_ context.Context, o client.Object) []reconcile.Request {
	pod, ok := o.(*keelsonv1.Pod)
	if !ok || pod.Spec.NodeName == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: pod.Spec.NodeName}}}
}

// Reconcile releases the Pods of a Node that has been absent long enough.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	name := request.Name
	err := r.client.Get(ctx, request.NamespacedName, &keelsonv1.Node{})
	if err == nil {
		r.present(name)
		return ctrl.Result{}, nil
	}
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, fmt.Errorf("read node %s: %w", name, err)
	}
	pods := &keelsonv1.PodList{}
	if err := r.client.List(ctx, pods, client.MatchingFields{byNode: name}); err != nil {
		return ctrl.Result{}, fmt.Errorf("list Pods of node %s: %w", name, err)
	}
	if len(pods.Items) == 0 {
		r.present(name)
		return ctrl.Result{}, nil
	}
	if wait := r.quarantine(name); wait > 0 {
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	err = r.live.Get(ctx, request.NamespacedName, &keelsonv1.Node{})
	if !apierrors.IsNotFound(err) {
		return ctrl.Result{}, err
	}
	var errs []error
	for i := range pods.Items {
		errs = append(errs, r.release(ctx, &pods.Items[i], nodeGone))
	}
	if err := errors.Join(errs...); err != nil {
		return ctrl.Result{}, err
	}
	r.present(name) // nothing is left that waits for this Node
	return ctrl.Result{}, nil
}

// present forgets how long a Node has been absent.
func (r *Reconciler) present(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.absent, name)
}

// quarantine returns how long the Node must still stay absent.
func (r *Reconciler) quarantine(name string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	since, known := r.absent[name]
	if !known {
		since = r.options.Clock.Now()
		r.absent[name] = since
	}
	return r.options.Quarantine - r.options.Clock.Since(since)
}
