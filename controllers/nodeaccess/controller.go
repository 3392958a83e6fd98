// Package nodeaccess lets each node agent read what its Pods name, and no more: the
// ConfigMaps and Secrets of Pods bound to its node, by name, and tokens of their
// accounts.
//
// It writes one Role and one RoleBinding for each node in each Namespace where the node
// has such Pods; they are its only record, and carry a label by which it finds them. A
// right is granted as soon as a Pod is bound, and taken back when no Pod has needed it
// for a while, so that Pods that come and go do not cost a write each. It never grants
// what the manager may not do itself, and touches no other Role. After a crash it looks
// at every Pod and at every Role of its own again.
package nodeaccess

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
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

const (
	// byNode indexes Pods in the cache.
	byNode = "nodeaccess.spec.nodeName"
	// DefaultLinger is how long a right outlives the last Pod that needed it.
	DefaultLinger = 20 * time.Second
	workers       = 4
)

// Options are what the controller can be told.
type Options struct {
	// Linger is how long a right outlives its last use; 0 means DefaultLinger.
	Linger time.Duration
	// Clock measures it; nil means the real one.
	Clock clock.PassiveClock
}

// Selector finds what this controller wrote. The manager's cache holds no other Roles.
func Selector() labels.Selector { return labels.SelectorFromSet(labels.Set{label: labelValue}) }

// Reconciler looks after one node in one Namespace at a time.
type Reconciler struct {
	client client.Client
	// live reads what the cache leaves out: Roles of others.
	live     client.Reader
	recorder events.EventRecorder
	options  Options

	mu sync.Mutex
	// superfluous says since when rights have been wider than needed.
	superfluous map[types.NamespacedName]time.Time
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, byNode, nodesOf); err != nil {
		return fmt.Errorf("index Pods by node: %w", err)
	}
	r := NewReconciler(mgr.GetClient(), mgr.GetAPIReader(), eventrecorder.New(mgr, "node-access-controller"), o)
	ours := handler.EnqueueRequestsFromMapFunc(ofRights)
	return ctrl.NewControllerManagedBy(mgr).
		Named("nodeaccess").
		Watches(&keelsonv1.Pod{}, handler.EnqueueRequestsFromMapFunc(ofPod), builder.WithPredicates(needsChange())).
		Watches(&rbacv1.Role{}, ours).
		Watches(&rbacv1.RoleBinding{}, ours).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: backoff.RateLimiter()}).
		Complete(r)
}

// NewReconciler builds a reconciler for tests that call Reconcile themselves.
func NewReconciler(c client.Client, live client.Reader, recorder events.EventRecorder, o Options) *Reconciler {
	if o.Linger == 0 {
		o.Linger = DefaultLinger
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{client: c, live: live, recorder: recorder, options: o, superfluous: map[types.NamespacedName]time.Time{}}
}

func nodesOf(o client.Object) []string {
	if pod, ok := o.(*keelsonv1.Pod); ok && pod.Spec.NodeName != "" {
		return []string{pod.Spec.NodeName}
	}
	return nil
}

// A request names the node as Name.
func ofPod(_ context.Context, o client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, node := range nodesOf(o) {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: node}})
	}
	return requests
}

func ofRights(_ context.Context, o client.Object) []reconcile.Request {
	node, ok := nodeOf(o.GetName())
	if !ok {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: node}}}
}

// needsChange leaves out most status writes: what a Pod needs follows from its spec and
// from whether it has ended.
func needsChange() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, okBefore := e.ObjectOld.(*keelsonv1.Pod)
		now, ok := e.ObjectNew.(*keelsonv1.Pod)
		return !ok || !okBefore || before.Generation != now.Generation || ended(before) != ended(now) ||
			before.Spec.NodeName != now.Spec.NodeName
	}}
}

func ended(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// Reconcile brings the rights of one agent in one Namespace up to date.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace, node := request.Namespace, request.Name
	pods := &keelsonv1.PodList{}
	if err := r.client.List(ctx, pods, client.InNamespace(namespace), client.MatchingFields{byNode: node}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list the Pods of node %s in namespace %s: %w", node, namespace, err)
	}
	needed := computeAccess(pods.Items)
	role := &rbacv1.Role{}
	name := types.NamespacedName{Namespace: namespace, Name: prefix + node}
	switch err := r.client.Get(ctx, name, role); {
	case apierrors.IsNotFound(err):
		role = nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("read role %s: %w", name, err)
	}
	if role == nil {
		r.settled(request.NamespacedName)
		if needed.empty() {
			return ctrl.Result{}, r.deleteBinding(ctx, namespace, node)
		}
		return ctrl.Result{}, r.tell(pods.Items, r.create(ctx, namespace, node, needed))
	}
	granted := accessOf(role.Rules)
	rest := time.Duration(0)
	if !needed.contains(granted) {
		if rest = r.lingers(request.NamespacedName); rest > 0 {
			needed = needed.union(granted)
		}
	} else {
		r.settled(request.NamespacedName)
	}
	if needed.empty() {
		r.settled(request.NamespacedName)
		return ctrl.Result{}, r.delete(ctx, namespace, node)
	}
	return ctrl.Result{RequeueAfter: rest}, r.tell(pods.Items, r.update(ctx, role, node, needed))
}

// lingers is how long rights that are too wide may stay.
func (r *Reconciler) lingers(key types.NamespacedName) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Clock.Now()
	since, known := r.superfluous[key]
	if !known {
		since = now
		r.superfluous[key] = now
	}
	rest := r.options.Linger - now.Sub(since)
	if rest <= 0 {
		delete(r.superfluous, key)
	}
	return rest
}

func (r *Reconciler) settled(key types.NamespacedName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.superfluous, key)
}

// create writes the Role first: the API server lets nobody bind one that is not there.
func (r *Reconciler) create(ctx context.Context, namespace, node string, a access) error {
	err := r.client.Create(ctx, renderRole(namespace, node, a))
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err):
		return nil // its Pods are about to end
	case apierrors.IsAlreadyExists(err):
		return r.foreign(ctx, &rbacv1.Role{}, namespace, node, err)
	case err != nil:
		return fmt.Errorf("create the role of node %s in namespace %s: %w", node, namespace, err)
	}
	klog.FromContext(ctx).V(2).Info("Granted a node agent what its Pods need", "node", node, "namespace", namespace,
		"configMaps", len(a.configMaps), "secrets", len(a.secrets), "accounts", len(a.tokenAccounts))
	return r.ensureBinding(ctx, namespace, node)
}

func (r *Reconciler) update(ctx context.Context, role *rbacv1.Role, node string, a access) error {
	wanted := role.DeepCopy()
	wanted.Rules = a.rules()
	if !reflect.DeepEqual(role.Rules, wanted.Rules) {
		err := r.client.Patch(ctx, wanted, client.MergeFromWithOptions(role, client.MergeFromWithOptimisticLock{}))
		if apierrors.IsNotFound(err) {
			return nil // the watch brings us back
		}
		if err != nil {
			return fmt.Errorf("update the role of node %s in namespace %s: %w", node, role.Namespace, err)
		}
	}
	return r.ensureBinding(ctx, role.Namespace, node)
}

func (r *Reconciler) ensureBinding(ctx context.Context, namespace, node string) error {
	wanted := renderBinding(namespace, node)
	present := &rbacv1.RoleBinding{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(wanted), present)
	switch {
	case apierrors.IsNotFound(err):
		err = r.client.Create(ctx, wanted)
		if apierrors.IsAlreadyExists(err) {
			return r.foreign(ctx, &rbacv1.RoleBinding{}, namespace, node, err)
		}
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err) {
			return nil
		}
	case err == nil && present.RoleRef != wanted.RoleRef:
		err = r.client.Delete(ctx, present) // it cannot change; the watch brings us back
	case err == nil && !reflect.DeepEqual(present.Subjects, wanted.Subjects):
		changed := present.DeepCopy()
		changed.Subjects = wanted.Subjects
		err = r.client.Patch(ctx, changed, client.MergeFromWithOptions(present, client.MergeFromWithOptimisticLock{}))
	}
	if err != nil {
		return fmt.Errorf("bind the role of node %s in namespace %s: %w", node, namespace, err)
	}
	return nil
}

func (r *Reconciler) delete(ctx context.Context, namespace, node string) error {
	if err := r.deleteBinding(ctx, namespace, node); err != nil {
		return err
	}
	role := &rbacv1.Role{ObjectMeta: metadata(namespace, node)}
	if err := r.client.Delete(ctx, role); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete the role of node %s in namespace %s: %w", node, namespace, err)
	}
	klog.FromContext(ctx).V(2).Info("Took back what a node agent no longer needs", "node", node, "namespace", namespace)
	return nil
}

// deleteBinding asks the API server only when there is something to delete.
func (r *Reconciler) deleteBinding(ctx context.Context, namespace, node string) error {
	binding := renderBinding(namespace, node)
	err := r.client.Get(ctx, client.ObjectKeyFromObject(binding), &rbacv1.RoleBinding{})
	if err == nil {
		err = r.client.Delete(ctx, binding)
	}
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("unbind the role of node %s in namespace %s: %w", node, namespace, err)
	}
	return nil
}
