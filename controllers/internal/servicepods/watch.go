package servicepods

import (
	"context"
	"fmt"
	"maps"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// Handler queues, after batch, the Services that a change of a Pod can matter to. Until
// then further changes cost nothing: the queue holds a Service once.
func Handler(reader client.Reader, batch time.Duration) handler.EventHandler {
	add := func(ctx context.Context, q queue, pod client.Object) {
		for _, key := range selecting(ctx, reader, pod) {
			q.AddAfter(reconcile.Request{NamespacedName: key}, batch)
		}
	}
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if projectionOf(e.Object) != "" {
				add(ctx, q, e.Object)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := projectionOf(e.ObjectOld), projectionOf(e.ObjectNew)
			relabelled := !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels())
			if before == after && (!relabelled || after == "") {
				return
			}
			add(ctx, q, e.ObjectNew)
			if relabelled {
				add(ctx, q, e.ObjectOld)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			add(ctx, q, e.Object)
		},
	}
}

// projectionOf returns what of a Pod, beside labels, shows in Endpoints and slices; ""
// when the Pod is in none.
func projectionOf(obj client.Object) string {
	pod, ok := obj.(*keelsonv1.Pod)
	if !ok || podstatus.IsFinished(pod) || (pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0) {
		return ""
	}
	return fmt.Sprintf("%s %t %t %v %s.%s %s", pod.UID, pod.DeletionTimestamp != nil, podstatus.IsReady(pod),
		PodIPs(pod), pod.Spec.Hostname, pod.Spec.Subdomain, pod.Spec.NodeName)
}

// PodIPs returns the addresses of pod, the one it prefers first.
func PodIPs(pod *keelsonv1.Pod) []string {
	if len(pod.Status.PodIPs) == 0 {
		return []string{pod.Status.PodIP}
	}
	ips := make([]string, len(pod.Status.PodIPs))
	for i := range pod.Status.PodIPs {
		ips[i] = pod.Status.PodIPs[i].IP
	}
	return ips
}
