package podgc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
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

// ended indexes the Pods that have ended and that nobody has deleted.
const (
	ended    = "podgc.ended"
	hasEnded = "true"
)

// gather is how long Pods that end are collected before they are counted; upstream
// counts every 20 seconds.
const gather = 20 * time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// terminatedReconciler counts the Pods that have ended, all at once.
type terminatedReconciler struct {
	client    client.Client
	threshold int
}

func addTerminated(mgr ctrl.Manager, threshold int) error {
	if threshold <= 0 {
		return nil
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &keelsonv1.Pod{}, ended, indexEnded); err != nil {
		return fmt.Errorf("index Pods that have ended: %w", err)
	}
	justEnded := predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return indexEnded(e.Object) != nil },
		DeleteFunc: func(event.DeleteEvent) bool { return false },
		UpdateFunc: func(e event.UpdateEvent) bool {
			return indexEnded(e.ObjectOld) == nil && indexEnded(e.ObjectNew) != nil
		},
	}
	all := func(_ context.Context, _ client.Object, q queue) { q.AddAfter(reconcile.Request{}, gather) }
	return ctrl.NewControllerManagedBy(mgr).
		Named("podgc-terminated").
		Watches(&keelsonv1.Pod{}, handler.Funcs{
			CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { all(ctx, e.Object, q) },
			UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) { all(ctx, e.ObjectNew, q) },
		}, builder.WithPredicates(justEnded)).
		WithOptions(controller.Options{RateLimiter: backoff.RateLimiter()}).
		Complete(&terminatedReconciler{client: mgr.GetClient(), threshold: threshold})
}

func indexEnded(o client.Object) []string {
	pod, ok := o.(*keelsonv1.Pod)
	if !ok || pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		return nil
	}
	return []string{hasEnded}
}

// Reconcile deletes the oldest Pods that have ended, above the threshold.
func (r *terminatedReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	var list keelsonv1.PodList
	if err := r.client.List(ctx, &list, client.MatchingFields{ended: hasEnded}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list Pods that have ended: %w", err)
	}
	var failed error
	for _, pod := range surplus(list.Items, r.threshold) {
		err := r.client.Delete(ctx, pod, client.Preconditions{UID: &pod.UID})
		if client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, fmt.Errorf("delete Pod %s: %w", klog.KObj(pod), err))
			continue
		}
		klog.FromContext(ctx).Info("Deleted a Pod that had ended, there are too many", "pod", klog.KObj(pod), "threshold", r.threshold)
	}
	return ctrl.Result{}, failed
}

// surplus are the oldest Pods above the threshold; evicted ones go first, as upstream.
func surplus(pods []keelsonv1.Pod, threshold int) []*keelsonv1.Pod {
	if len(pods) <= threshold {
		return nil
	}
	all := make([]*keelsonv1.Pod, len(pods))
	for i := range pods {
		all[i] = &pods[i]
	}
	slices.SortFunc(all, func(a, b *keelsonv1.Pod) int {
		return cmp.Or(evictedFirst(a, b), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return all[:len(all)-threshold]
}

func evictedFirst(a, b *keelsonv1.Pod) int {
	evicted := func(pod *keelsonv1.Pod) int {
		if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason == "Evicted" {
			return 0
		}
		return 1
	}
	return cmp.Compare(evicted(a), evicted(b))
}
