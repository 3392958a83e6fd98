package endpointslice

import (
	"context"
	"fmt"
	"time"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	endpointsliceutil "k8s.io/endpointslice/util"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// serviceIndex finds the slices of one Service that are ours.
const serviceIndex = "endpointslice.service"

// repairDelay keeps two writers of one slice from chasing each other; it is upstream's.
const repairDelay = time.Second

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

func serviceOfOurs(obj client.Object) []string {
	if !isOurs(obj) || obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName] == "" {
		return nil
	}
	return []string{obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName]}
}

func isOurs(obj client.Object) bool {
	return obj.GetLabels()[upstreamdiscoveryv1.LabelManagedBy] == ManagedBy
}

// listSlices returns our slices of a Service. They are the cache's own objects: read,
// never write.
func listSlices(ctx context.Context, reader client.Reader, service types.NamespacedName) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := reader.List(ctx, &list, client.InNamespace(service.Namespace),
		client.MatchingFields{serviceIndex: service.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("failed to list EndpointSlices: %w", err)
	}
	return list.Items, nil
}

// sliceHandler queues the Service of a slice that somebody else wrote or deleted, to
// repair it. Slices that are there at start go with their Services, which are all queued.
func sliceHandler(tracker *endpointsliceutil.EndpointSliceTracker) handler.EventHandler {
	add := func(q queue, obj client.Object) {
		if name := obj.GetLabels()[upstreamdiscoveryv1.LabelServiceName]; name != "" {
			key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: name}
			q.AddAfter(reconcile.Request{NamespacedName: key}, repairDelay)
		}
	}
	// foreign says that obj, which is ours, is not as we wrote it last.
	foreign := func(obj client.Object) bool {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		return ok && isOurs(obj) && tracker.ShouldSync(slice.Upstream())
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList && foreign(e.Object) {
				add(q, e.Object)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			const name = upstreamdiscoveryv1.LabelServiceName
			switch {
			case e.ObjectOld.GetLabels()[name] != e.ObjectNew.GetLabels()[name]:
				add(q, e.ObjectOld)
				add(q, e.ObjectNew)
			case isOurs(e.ObjectOld) != isOurs(e.ObjectNew),
				e.ObjectOld.GetResourceVersion() != e.ObjectNew.GetResourceVersion() && foreign(e.ObjectNew):
				add(q, e.ObjectNew)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			slice, ok := e.Object.(*discoveryv1.EndpointSlice)
			if !ok || !isOurs(e.Object) {
				return
			}
			if seen := slice.Upstream(); !tracker.Has(seen) || !tracker.HandleDeletion(seen) {
				add(q, e.Object)
			}
		},
	}
}
