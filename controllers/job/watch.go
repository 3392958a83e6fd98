package job

import (
	"context"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

// batchPeriod is how long changes of Pods are gathered before their Job looks: each
// look that counts a Pod writes the status twice. Upstream waits a second.
const batchPeriod = 100 * time.Millisecond

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownChanges passes what a reconciliation depends on: the spec, the deletion, and the
// status, which is put right where somebody else has written it.
func ownChanges() predicate.Predicate {
	return predicate.Or(predicate.GenerationChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, isJob := e.ObjectOld.(*batchv1.Job)
			after, stillJob := e.ObjectNew.(*batchv1.Job)
			return isJob && stillJob &&
				((before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) || !statusEqual(&before.Status, &after.Status))
		},
	})
}

// podHandler queues the Jobs that a change of a Pod concerns: the one that controls it,
// the one that did before, and for a Pod that nobody controls every one that could
// adopt it.
func podHandler(reader client.Reader) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !addOwner(q, e.Object) && metav1.GetControllerOfNoCopy(e.Object) == nil {
				addMatching(ctx, reader, q, e.Object.GetNamespace(), e.Object.GetLabels())
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
				return
			}
			before, after := metav1.GetControllerOfNoCopy(e.ObjectOld), metav1.GetControllerOfNoCopy(e.ObjectNew)
			if !sameOwner(before, after) {
				addOwner(q, e.ObjectOld)
			}
			addOwner(q, e.ObjectNew)
			relabelled := !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
			if after == nil && (relabelled || before != nil) {
				addMatching(ctx, reader, q, e.ObjectNew.GetNamespace(), e.ObjectNew.GetLabels())
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			addOwner(q, e.Object)
		},
	}
}

// jobOf returns the reference to the Job that controls obj; nil when none does.
func jobOf(obj client.Object) *metav1.OwnerReference {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil || !podcontrol.IsKind(ref, jobs.Kind.GroupKind()) {
		return nil
	}
	return ref
}

func addOwner(q queue, pod client.Object) bool {
	ref := jobOf(pod)
	if ref == nil {
		return false
	}
	q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: pod.GetNamespace(), Name: ref.Name}}, batchPeriod)
	return true
}

func addMatching(ctx context.Context, reader client.Reader, q queue, namespace string, podLabels map[string]string) {
	var list batchv1.JobList
	err := reader.List(ctx, &list, client.InNamespace(namespace), client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
	if err != nil {
		// The cache answers from memory; it fails only while the manager stops.
		klog.FromContext(ctx).Error(err, "Failed to find the Jobs of an orphan", "namespace", namespace)
		return
	}
	for i := range list.Items {
		job := &list.Items[i]
		selector, err := metav1.LabelSelectorAsSelector(job.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(podLabels)) {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)}, batchPeriod)
		}
	}
}

func sameOwner(a, b *metav1.OwnerReference) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UID == b.UID
}

// orphanHandler queues Pods that may wait for nobody: those that are being deleted or
// have no controller, and at the start every one that is not counted.
func orphanHandler() handler.EventHandler {
	add := func(q queue, pod client.Object, always bool) {
		if jobs.IsTracked(pod) && (always || pod.GetDeletionTimestamp() != nil || metav1.GetControllerOfNoCopy(pod) == nil) {
			q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object, e.IsInInitialList) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { add(q, e.ObjectNew, false) },
	}
}

// abandonHandler queues the Pods of a Job that will not count them: it is gone, or it
// has finished.
func abandonHandler(reader client.Reader) handler.EventHandler {
	add := func(ctx context.Context, q queue, job client.Object) {
		pods, err := podcontrol.ListPods(ctx, cacheOnly{reader}, podcontrol.Owner{Object: job, Kind: jobs.Kind})
		if err != nil {
			klog.FromContext(ctx).Error(err, "Failed to find the Pods of a Job", "job", klog.KObj(job))
			return
		}
		for _, pod := range pods {
			if jobs.IsTracked(pod) {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pod)})
			}
		}
	}
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, isJob := e.ObjectOld.(*batchv1.Job)
			after, stillJob := e.ObjectNew.(*batchv1.Job)
			if isJob && stillJob && jobs.Finished(before) == nil && jobs.Finished(after) != nil {
				add(ctx, q, after)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { add(ctx, q, e.Object) },
	}
}

// cacheOnly reads the cache as it is: an event handler must not wait.
type cacheOnly struct{ client.Reader }

func (c cacheOnly) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return c.Reader.List(ctx, list, append(opts, client.DisableReadYourWritesConsistency)...)
}
