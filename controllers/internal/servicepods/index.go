// Package servicepods finds the Pods behind a Service and the Services in front of a
// Pod, for the controllers that write Endpoints and EndpointSlices. Neither direction
// looks at everything: two indexes of the cache meet in one pair of a selector.
//
// It reads caches only and writes nothing. It keeps no memory beside those indexes,
// which a restart fills again.
package servicepods

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// A Service is found through the first pair of its selector among the labels of a Pod,
// and its Pods are found through the same pair.
const (
	podLabelIndex        = "servicepods.label"
	serviceSelectorIndex = "servicepods.selector"
)

// Index is the pair of indexes of one manager; the controllers that share it pass the
// same one around. The zero value is ready to use.
type Index struct {
	mu         sync.Mutex
	registered bool
}

// Register adds the indexes to the cache behind indexer. Only the first call does
// something: a cache does not take an index twice.
func (x *Index) Register(ctx context.Context, indexer client.FieldIndexer) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.registered {
		return nil
	}
	if err := indexer.IndexField(ctx, &keelsonv1.Pod{}, podLabelIndex, pairsOfPod); err != nil {
		return fmt.Errorf("failed to index Pods by label: %w", err)
	}
	if err := indexer.IndexField(ctx, &keelsonv1.Service{}, serviceSelectorIndex, pairOfService); err != nil {
		return fmt.Errorf("failed to index Services by selector: %w", err)
	}
	x.registered = true
	return nil
}

func pairsOfPod(obj client.Object) []string {
	pairs := make([]string, 0, len(obj.GetLabels()))
	for key, value := range obj.GetLabels() {
		pairs = append(pairs, pair(key, value))
	}
	return pairs
}

func pairOfService(obj client.Object) []string {
	service, ok := obj.(*keelsonv1.Service)
	if !ok || len(service.Spec.Selector) == 0 {
		return nil
	}
	return []string{firstPair(service.Spec.Selector)}
}

func pair(key, value string) string { return key + "=" + value }

func firstPair(selector map[string]string) string {
	key := slices.Min(slices.Collect(maps.Keys(selector)))
	return pair(key, selector[key])
}

// List returns the Pods that the selector of service matches, which must not be empty.
// They are the cache's own objects: read, never write.
func List(ctx context.Context, reader client.Reader, service *keelsonv1.Service) ([]*keelsonv1.Pod, error) {
	var list keelsonv1.PodList
	err := reader.List(ctx, &list, client.InNamespace(service.Namespace),
		client.MatchingFields{podLabelIndex: firstPair(service.Spec.Selector)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("failed to list Pods: %w", err)
	}
	selector := labels.SelectorFromSet(service.Spec.Selector)
	pods := make([]*keelsonv1.Pod, 0, len(list.Items))
	for i := range list.Items {
		if selector.Matches(labels.Set(list.Items[i].Labels)) {
			pods = append(pods, &list.Items[i])
		}
	}
	return pods, nil
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
