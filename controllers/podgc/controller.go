// Package podgc releases the Pods of Nodes that no longer exist: nobody else would
// ever take the finalizer keelson.dev/pod off them.
//
// A Pod is released only after its Node has been absent for a while and is still
// absent when read live. It is deleted with its UID as a condition, and only our own
// finalizer is taken off. It holds no state worth keeping: after a crash the waiting
// time starts again.
package podgc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/apis/summary"
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
	// Clock measures it; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler looks at one Node name at a time.
type Reconciler struct {
	client client.Client
	// live reads past the cache.
	live    client.Reader
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
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, byNode, func(o client.Object) []string {
		if pod, ok := o.(*keelsonv1.Pod); ok && pod.Spec.NodeName != "" {
			return []string{pod.Spec.NodeName}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("index Pods by node: %w", err)
	}
	r := &Reconciler{client: mgr.GetClient(), live: mgr.GetAPIReader(), options: o, absent: map[string]time.Time{}}
	return ctrl.NewControllerManagedBy(mgr).
		Named("podgc").
		For(&keelsonv1.Node{}, builder.WithPredicates(comesOrGoes())).
		Watches(&keelsonv1.Pod{}, handler.EnqueueRequestsFromMapFunc(toNode), builder.WithPredicates(newlyBound())).
		Complete(r)
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
		errs = append(errs, r.release(ctx, &pods.Items[i]))
	}
	return ctrl.Result{}, errors.Join(errs...)
}

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

// release ends a Pod whose agent is gone for good: Failed for whoever watches it,
// deleted, and without our finalizer.
func (r *Reconciler) release(ctx context.Context, pod *keelsonv1.Pod) error {
	if err := r.fail(ctx, pod); err != nil {
		return client.IgnoreNotFound(err)
	}
	if pod.DeletionTimestamp == nil {
		if err := r.client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID}); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	klog.FromContext(ctx).Info("Released a Pod of a node that is gone", "pod", klog.KObj(pod))
	if !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		return nil
	}
	kept := slices.DeleteFunc(slices.Clone(pod.Finalizers), func(f string) bool { return f == keelsonv1.PodFinalizer })
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "finalizers": kept}})
	if err != nil {
		return fmt.Errorf("encode the patch: %w", err)
	}
	if err := r.client.Patch(ctx, pod, client.RawPatch(types.MergePatchType, patch)); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("take the finalizer off Pod %s: %w", klog.KObj(pod), err)
	}
	return nil
}

func (r *Reconciler) fail(ctx context.Context, pod *keelsonv1.Pod) error {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return nil
	}
	updated := pod.DeepCopy()
	updated.Status.Phase = corev1.PodFailed
	updated.Status.Conditions = append(slices.DeleteFunc(updated.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget
	}), corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue,
		Reason: "DeletionByPodGC", Message: "PodGC: node no longer exists",
		LastTransitionTime: metav1.NewTime(r.options.Clock.Now()),
	})
	updated.Status.Summary = summary.Pod(updated)
	base := client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, updated, base); err != nil {
		return fmt.Errorf("write status of Pod %s: %w", klog.KObj(pod), err)
	}
	*pod = *updated
	return nil
}
