package garbagecollector

import (
	"context"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

// ignored kinds change all the time and are kept for an hour only; upstream leaves
// them out too.
var ignored = map[schema.GroupResource]bool{
	{Group: "", Resource: "events"}:              true,
	{Group: "events.k8s.io", Resource: "events"}: true,
}

// customResources: a change here may mean kinds that come or go.
var customResources = schema.GroupResource{Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions"}

// collectable picks the resources to follow.
func collectable(all []resources.Resource) []resources.Resource {
	var found []resources.Resource
	for _, r := range all {
		if r.Supports("list", "watch", "delete") && !ignored[r.GroupResource()] {
			found = append(found, r)
		}
	}
	return found
}

// monitor feeds the graph from one watch on the metadata of one resource. It is the
// reflector's store, so that no object is kept twice.
type monitor struct {
	resource *resources.Resource
	graph    *graph
	// affected receives what to look at; changed is called after each news.
	affected func([]types.UID)
	changed  func(schema.GroupResource)
	stop     context.CancelFunc
	// done is closed when the watch has ended and the graph is rid of the resource.
	done   chan struct{}
	synced atomic.Bool
}

var _ toolscache.ReflectorStore = (*monitor)(nil)

// run watches until ctx ends; the reflector lists again after every failure.
func (m *monitor) run(ctx context.Context, client metadata.Interface) {
	objects := client.Resource(m.resource.GroupVersionResource)
	source := &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return objects.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return objects.Watch(ctx, options)
		},
	}
	toolscache.NewReflectorWithOptions(
		toolscache.ToListWatcherWithWatchListSemantics(source, client),
		&metav1.PartialObjectMetadata{}, m,
		toolscache.ReflectorOptions{Name: "garbagecollector " + m.resource.GroupResource().String()},
	).RunWithContext(ctx)
}

// Add takes in a new object.
func (m *monitor) Add(obj any) error { return m.Update(obj) }

// Update takes in a changed object.
func (m *monitor) Update(obj any) error {
	if meta, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.affected(m.graph.set(newObject(m.resource, meta)))
		m.changed(m.resource.GroupResource())
	}
	return nil
}

// Delete takes in an object that is gone.
func (m *monitor) Delete(obj any) error {
	if meta, ok := obj.(*metav1.PartialObjectMetadata); ok {
		m.affected(m.graph.remove(meta.UID))
		m.changed(m.resource.GroupResource())
	}
	return nil
}

// Replace takes in a full list.
func (m *monitor) Replace(list []any, _ string) error {
	present := make(map[types.UID]struct{}, len(list))
	for _, obj := range list {
		if meta, ok := obj.(*metav1.PartialObjectMetadata); ok {
			present[meta.UID] = struct{}{}
			m.affected(m.graph.set(newObject(m.resource, meta)))
		}
	}
	m.affected(m.graph.removeAbsent(m.resource.GroupVersionResource, present))
	m.synced.Store(true)
	m.changed(m.resource.GroupResource())
	return nil
}

// Resync has nothing to do: the graph is what the watch says.
func (m *monitor) Resync() error { return nil }
