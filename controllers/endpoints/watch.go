package endpoints

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// The two indexes meet in one pair of a selector: a Service is found through the
// first pair of its selector among the labels of a Pod, and its Pods are found
// through the same pair. Neither direction looks at everything.
const (
	podLabelIndex        = "endpoints.label"
	serviceSelectorIndex = "endpoints.selector"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func indexFields(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &keelsonv1.Pod{}, podLabelIndex, func(obj client.Object) []string {
		pairs := make([]string, 0, len(obj.GetLabels()))
		for key, value := range obj.GetLabels() {
			pairs = append(pairs, pair(key, value))
		}
		return pairs
	})
	if err != nil {
		return fmt.Errorf("failed to index Pods by label: %w", err)
	}
	err = indexer.IndexField(ctx, &keelsonv1.Service{}, serviceSelectorIndex, func(obj client.Object) []string {
		service, ok := obj.(*keelsonv1.Service)
		if !ok || len(service.Spec.Selector) == 0 {
			return nil
		}
		return []string{firstPair(service.Spec.Selector)}
	})
	if err != nil {
		return fmt.Errorf("failed to index Services by selector: %w", err)
	}
	return nil
}

func pair(key, value string) string { return key + "=" + value }

func firstPair(selector map[string]string) string {
	key := slices.Min(slices.Collect(maps.Keys(selector)))
	return pair(key, selector[key])
}

// listPods returns the Pods that could match the selector of service. They are the
// cache's own objects: read, never write.
func listPods(ctx context.Context, reader client.Reader, service *keelsonv1.Service) ([]*keelsonv1.Pod, error) {
	var list keelsonv1.PodList
	err := reader.List(ctx, &list, client.InNamespace(service.Namespace),
		client.MatchingFields{podLabelIndex: firstPair(service.Spec.Selector)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("failed to list Pods: %w", err)
	}
	pods := make([]*keelsonv1.Pod, len(list.Items))
	for i := range list.Items {
		pods[i] = &list.Items[i]
	}
	return pods, nil
}

// podHandler queues, after batch, the Services whose Endpoints a change of a Pod can
// touch. Until then further changes cost nothing: the queue holds a Service once.
func podHandler(reader client.Reader, batch time.Duration) handler.EventHandler {
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

// projectionOf returns what of a Pod, beside labels, shows in Endpoints; "" when the
// Pod is in none.
func projectionOf(obj client.Object) string {
	pod, ok := obj.(*keelsonv1.Pod)
	if !ok || !belongs(pod, true) || (pod.Status.PodIP == "" && len(pod.Status.PodIPs) == 0) {
		return ""
	}
	return fmt.Sprintf("%s %t %t %s %s.%s %s", pod.UID, pod.DeletionTimestamp != nil, podstatus.IsReady(pod),
		podIPs(pod), pod.Spec.Hostname, pod.Spec.Subdomain, pod.Spec.NodeName)
}

// selecting returns the Services that select pod.
func selecting(ctx context.Context, reader client.Reader, pod client.Object) []types.NamespacedName {
	var keys []types.NamespacedName
	for key, value := range pod.GetLabels() {
		var list keelsonv1.ServiceList
		err := reader.List(ctx, &list, client.InNamespace(pod.GetNamespace()),
			client.MatchingFields{serviceSelectorIndex: pair(key, value)},
			client.UnsafeDisableDeepCopy, client.DisableReadYourWritesConsistency)
		if err != nil {
			// The cache answers from memory; it fails only while the manager stops.
			klog.FromContext(ctx).Error(err, "Failed to find the Services of a Pod", "pod", klog.KObj(pod))
			return keys
		}
		for i := range list.Items {
			if labels.SelectorFromSet(list.Items[i].Spec.Selector).Matches(labels.Set(pod.GetLabels())) {
				keys = append(keys, client.ObjectKeyFromObject(&list.Items[i]))
			}
		}
	}
	return keys
}

// endpointsHandler queues the Service of an Endpoints object that is, or was, ours:
// to repair it, to make it again, or to find at start that its Service is gone. A
// hand-made object may well exist before its Service; it is left alone.
func endpointsHandler() handler.EventHandler {
	add := func(q queue, obj client.Object) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(obj)})
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if e.IsInInitialList && isManaged(e.Object.GetLabels()) {
				add(q, e.Object)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() &&
				(isManaged(e.ObjectOld.GetLabels()) || isManaged(e.ObjectNew.GetLabels())) {
				add(q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			if isManaged(e.Object.GetLabels()) {
				add(q, e.Object)
			}
		},
	}
}
