// Package namespace empties Namespaces that are being deleted and then lets them
// go: what a bare API server leaves to somebody else.
//
// Pods go first and are waited for, then everything else that the API server can
// list and delete. It never removes a finalizer other than its own "kubernetes" in
// spec.finalizers: content whose finalizers stay holds the Namespace, and its
// conditions say so. Each round starts from what the API server holds, so a round
// that is cut off is simply repeated.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/keelson-dev/keelson/controllers/internal/backoff"
	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

const (
	// workers is how many Namespaces are emptied at once.
	workers = 5
	// minWait and maxWait bound the time to the next look at content that remains.
	minWait = 250 * time.Millisecond
	maxWait = 15 * time.Second
)

// Options are what the controller can be told.
type Options struct {
	// Clock is the time of conditions and of waiting; nil means the real one.
	Clock clock.PassiveClock
}

// Reconciler empties one Namespace at a time.
type Reconciler struct {
	client   client.Client
	metadata metadata.Interface
	server   discovery.DiscoveryInterfaceWithContext
	clock    clock.PassiveClock
}

// NewReconciler builds a reconciler for tests that call Reconcile themselves.
func NewReconciler(c client.Client, m metadata.Interface, server discovery.DiscoveryInterfaceWithContext, o Options) *Reconciler {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Reconciler{client: c, metadata: m, server: server, clock: o.Clock}
}

// Add registers the controller with mgr.
func Add(mgr ctrl.Manager, o Options) error {
	cfg := rest.CopyConfig(mgr.GetConfig())
	cfg.QPS = -1
	contents, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("build a metadata client: %w", err)
	}
	server, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("build a discovery client: %w", err)
	}
	terminating := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetDeletionTimestamp() != nil })
	return ctrl.NewControllerManagedBy(mgr).
		Named("namespace").
		For(&corev1.Namespace{}, builder.WithPredicates(terminating)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: backoff.RateLimiter()}).
		Complete(NewReconciler(mgr.GetClient(), contents, discovery.ToDiscoveryInterfaceWithContext(server), o))
}

// Reconcile does one round: delete what is left, say what remains, let go when
// nothing does.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, request.NamespacedName, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if namespace.DeletionTimestamp == nil || !slices.Contains(namespace.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return ctrl.Result{}, nil
	}
	if namespace.Status.Phase != corev1.NamespaceTerminating {
		// The API server sets it when it marks the deletion; a write that raced with
		// that may have undone it.
		namespace = namespace.DeepCopy()
		namespace.Status.Phase = corev1.NamespaceTerminating
	}
	found := r.deleteContent(ctx, namespace.Name)
	if err := r.writeStatus(ctx, namespace, found); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := found.err(); err != nil {
		return ctrl.Result{}, fmt.Errorf("empty namespace %s: %w", namespace.Name, err)
	}
	if found.remaining() > 0 {
		wait := r.waitFor(namespace)
		klog.FromContext(ctx).V(2).Info("Content remains", "objects", found.remaining(), "lookAgainIn", wait)
		return ctrl.Result{RequeueAfter: wait}, nil
	}
	return ctrl.Result{}, r.finalize(ctx, namespace)
}

// waitFor looks often at a fresh deletion and seldom at one that hangs.
func (r *Reconciler) waitFor(namespace *corev1.Namespace) time.Duration {
	return min(max(r.clock.Since(namespace.DeletionTimestamp.Time)/4, minWait), maxWait)
}

// writeStatus says what the round found.
func (r *Reconciler) writeStatus(ctx context.Context, namespace *corev1.Namespace, found content) error {
	updated := namespace.DeepCopy()
	updated.Status.Phase = corev1.NamespaceTerminating
	if !setConditions(&updated.Status, computeConditions(found), r.clock.Now()) {
		return nil
	}
	base := client.MergeFromWithOptions(namespace, client.MergeFromWithOptimisticLock{})
	if err := r.client.Status().Patch(ctx, updated, base); err != nil {
		return fmt.Errorf("write status of namespace %s: %w", namespace.Name, err)
	}
	*namespace = *updated
	return nil
}

// finalize takes our finalizer off; the API server deletes the Namespace when it
// was the last.
func (r *Reconciler) finalize(ctx context.Context, namespace *corev1.Namespace) error {
	updated := namespace.DeepCopy()
	updated.Spec.Finalizers = slices.DeleteFunc(updated.Spec.Finalizers, func(f corev1.FinalizerName) bool {
		return f == corev1.FinalizerKubernetes
	})
	err := r.client.SubResource("finalize").Update(ctx, updated, client.DisableReadYourWritesConsistency)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize namespace %s: %w", namespace.Name, err)
	}
	klog.FromContext(ctx).Info("Emptied")
	return nil
}

// content is what one round found and did.
type content struct {
	// discovery and undiscovered: kinds that could not be asked for.
	discovery    error
	undiscovered resources.UnknownError
	// deletion holds one error per resource that could not be emptied.
	deletion []error
	// objects counts what remains by "resource.group"; finalizers by finalizer.
	objects    map[string]int
	finalizers map[string]int
}

func (c content) remaining() int {
	sum := 0
	for _, count := range c.objects {
		sum += count
	}
	return sum
}

// err is what must be tried again: a Namespace is never let go on partial knowledge.
func (c content) err() error {
	var undiscovered error
	if len(c.undiscovered) > 0 {
		undiscovered = c.undiscovered
	}
	return errors.Join(c.discovery, undiscovered, errors.Join(c.deletion...))
}
