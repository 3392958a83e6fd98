// Package tainteviction deletes the Pods of nodes with taints of effect NoExecute, each
// when the time is over for which it tolerates them.
//
// It sets no taints and stops nothing: it deletes Pod objects. When a Pod's time began
// is read from the taint, and else remembered from when the taint was first seen; after
// a restart such a Pod has its whole time again.
package tainteviction

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/klog/v2"
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
	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
)

// Name is the controller's name in --controllers, logs, metrics and events.
const Name = "tainteviction"

// byNode indexes Pods in the cache.
const byNode = "tainteviction.spec.nodeName"

// Options configure the controller. The zero value is good.
type Options struct {
	// Clock tells the time; nil means the real one.
	Clock clock.PassiveClock
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, byNode, nodesOf)
	if err != nil {
		return fmt.Errorf("index Pods by node: %w", err)
	}
	r := NewReconciler(mgr.GetClient(), eventrecorder.New(mgr, Name), o)
	err = ctrl.NewControllerManagedBy(mgr).
		Named(Name).
		For(&keelsonv1.Pod{}, builder.WithPredicates(boundOrChanged())).
		Watches(&keelsonv1.Node{}, podsOfNode(r.client), builder.WithPredicates(taintsChanged())).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter(), MaxConcurrentReconciles: 8}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("failed to add controller %s: %w", Name, err)
	}
	return nil
}

func nodesOf(o client.Object) []string {
	if pod, ok := o.(*keelsonv1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}
	}
	return nil
}

// boundOrChanged passes Pods that are on a node, when they get there and when what they
// tolerate changes.
func boundOrChanged() predicate.Predicate {
	bound := func(o client.Object) bool {
		pod, ok := o.(*keelsonv1.Pod)
		return ok && pod.Spec.NodeName != ""
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return bound(e.Object) },
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, wasPod := e.ObjectOld.(*keelsonv1.Pod)
			after, isPod := e.ObjectNew.(*keelsonv1.Pod)
			return wasPod && isPod && bound(after) &&
				(!bound(before) || !equality.Semantic.DeepEqual(before.Spec.Tolerations, after.Spec.Tolerations))
		},
	}
}

func taintsChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return len(taintsOf(e.Object)) > 0 },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !equality.Semantic.DeepEqual(taintsOf(e.ObjectOld), taintsOf(e.ObjectNew))
		},
	}
}

func taintsOf(o client.Object) []corev1.Taint {
	node, ok := o.(*keelsonv1.Node)
	if !ok {
		return nil
	}
	return noExecute(node.Spec.Taints)
}

func podsOfNode(reader client.Reader) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, node client.Object) []reconcile.Request {
		var list keelsonv1.PodList
		err := reader.List(ctx, &list, client.MatchingFields{byNode: node.GetName()}, client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
		if err != nil {
			// The cache answers from memory; it fails only while the manager stops.
			klog.FromContext(ctx).Error(err, "Failed to find the Pods of a node", "node", node.GetName())
		}
		var requests []reconcile.Request
		for i := range list.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
		return requests
	})
}

// Reconciler looks at one Pod.
type Reconciler struct {
	client   client.Client
	recorder events.EventRecorder
	clock    clock.PassiveClock

	mu sync.Mutex
	// leaving are the Pods whose time is running.
	leaving map[types.NamespacedName]stay
}

// stay is the time of one Pod on a tainted node.
type stay struct {
	uid   types.UID
	since time.Time
}

// NewReconciler returns a Reconciler that reads and writes through c.
func NewReconciler(c client.Client, recorder events.EventRecorder, o Options) *Reconciler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{client: c, recorder: recorder, clock: o.Clock, leaving: map[types.NamespacedName]stay{}}
}

// Reconcile implements reconcile.Reconciler.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	pod := &keelsonv1.Pod{}
	err := r.client.Get(ctx, req.NamespacedName, pod)
	if apierrors.IsNotFound(err) || err == nil && (pod.DeletionTimestamp != nil || pod.Spec.NodeName == "") {
		r.forget(req.NamespacedName)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	node := &keelsonv1.Node{}
	err = r.client.Get(ctx, client.ObjectKey{Name: pod.Spec.NodeName}, node)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, fmt.Errorf("read node %s: %w", pod.Spec.NodeName, err)
	}
	now, taints := r.clock.Now(), noExecute(node.Spec.Taints)
	d := decide(taints, pod.Spec.Tolerations, r.since(pod, taints, now), now)
	switch {
	case d.evict:
		return ctrl.Result{}, r.evict(ctx, pod)
	case d.wait > 0:
		r.remember(pod, r.since(pod, taints, now))
		return ctrl.Result{RequeueAfter: d.wait}, nil
	}
	if r.forget(req.NamespacedName) {
		recordCancelled(r.recorder, pod)
	}
	return ctrl.Result{}, nil
}

// since is when the Pod's time began.
func (r *Reconciler) since(pod *keelsonv1.Pod, taints []corev1.Taint, now time.Time) time.Time {
	r.mu.Lock()
	known, ok := r.leaving[client.ObjectKeyFromObject(pod)]
	r.mu.Unlock()
	if ok && known.uid == pod.UID {
		return known.since
	}
	since, said := tainted(taints)
	if !said || since.After(now) {
		return now
	}
	// A Pod that came later has its whole time from then on.
	if created := pod.CreationTimestamp.Time; created.After(since) {
		return created
	}
	return since
}

func (r *Reconciler) remember(pod *keelsonv1.Pod, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaving[client.ObjectKeyFromObject(pod)] = stay{pod.UID, since}
}

// forget returns whether the Pod's time was running.
func (r *Reconciler) forget(name types.NamespacedName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, was := r.leaving[name]
	delete(r.leaving, name)
	return was
}

// evict says in the Pod's status why, and deletes it.
func (r *Reconciler) evict(ctx context.Context, pod *keelsonv1.Pod) error {
	marked := pod.DeepCopy()
	if setTarget(&marked.Status.PodStatus, pod.Generation, r.clock.Now()) {
		// A list is replaced: insist on the version that was read.
		patch := client.MergeFromWithOptions(pod, client.MergeFromWithOptimisticLock{})
		if err := r.client.Status().Patch(ctx, marked, patch); err != nil {
			return client.IgnoreNotFound(err)
		}
	}
	recordEvicted(r.recorder, pod)
	err := r.client.Delete(ctx, pod, &client.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete the Pod: %w", err)
	}
	klog.FromContext(ctx).Info("Deleted a Pod that does not tolerate its node's taints any longer", "node", pod.Spec.NodeName)
	r.forget(client.ObjectKeyFromObject(pod))
	return nil
}

// setTarget adds the condition DisruptionTarget in upstream's words; changed is false
// when it is there.
func setTarget(status *corev1.PodStatus, generation int64, now time.Time) (changed bool) {
	target := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now),
		Reason: "DeletionByTaintManager", Message: "Taint manager: deleting due to NoExecute taint",
	}
	for i := range status.Conditions {
		if status.Conditions[i].Type == corev1.DisruptionTarget {
			if status.Conditions[i].Status == corev1.ConditionTrue {
				return false
			}
			status.Conditions[i] = target
			return true
		}
	}
	status.Conditions = append(status.Conditions, target)
	return true
}
