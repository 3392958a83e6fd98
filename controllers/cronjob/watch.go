package cronjob

import (
	"context"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// ownHandler queues a CronJob whose spec or status has changed. A new schedule counts
// from its next time on, as upstream: the past of a schedule that was not there is not
// caught up with.
func ownHandler(now clock.PassiveClock) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { q.Add(requestFor(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			before, isCronJob := e.ObjectOld.(*batchv1.CronJob)
			after, stillCronJob := e.ObjectNew.(*batchv1.CronJob)
			if !isCronJob || !stillCronJob {
				return
			}
			if !sameSchedule(before, after) {
				if schedule, err := parse(after); err == nil {
					q.AddAfter(requestFor(after), waitForNext(after, schedule, now.Now()))
					return
				}
			}
			if before.Generation != after.Generation || !equality.Semantic.DeepEqual(before.Status, after.Status) {
				q.Add(requestFor(after))
			}
		},
	}
}

func sameSchedule(a, b *batchv1.CronJob) bool {
	return a.Spec.Schedule == b.Spec.Schedule && valueOr(a.Spec.TimeZone, "") == valueOr(b.Spec.TimeZone, "")
}

// jobHandler queues the CronJob that controls a Job, and the one that did before.
func jobHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { addOwner(q, e.Object) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
				return
			}
			if before := ownerOf(e.ObjectOld); before != nil && !metav1.IsControlledBy(e.ObjectNew, &metav1.ObjectMeta{UID: before.UID}) {
				addOwner(q, e.ObjectOld)
			}
			addOwner(q, e.ObjectNew)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { addOwner(q, e.Object) },
	}
}

func addOwner(q queue, job client.Object) {
	if ref := ownerOf(job); ref != nil {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: job.GetNamespace(), Name: ref.Name}})
	}
}

func requestFor(obj client.Object) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)}
}
