// Package trust gives the node agent the trust anchors that Pods of its node mount from
// ClusterTrustBundles.
//
// It watches all bundles of the cluster while a Pod of the node names one, by name or by
// signer and labels, and nothing while none does. It wakes the Pods whose files a change
// concerns, and never writes anything. Everything it knows is in memory; an agent that
// starts reads anew, and a watch that breaks takes no file away.
package trust

import (
	"context"
	"fmt"
	"sync"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// patience is how long a read waits for the first list of bundles.
const patience = 5 * time.Second

// Cache holds the bundles while Pods name some.
type Cache struct {
	source  toolscache.ListerWatcher
	clock   clock.WithDelayedExecution
	changed func(types.UID)
	//nolint:containedctx // the watch lives as long as the Pods, not as one call
	ctx context.Context

	mu    sync.Mutex
	pods  map[types.UID][]*corev1.ClusterTrustBundleProjection
	watch *watch // nil while no Pod names a bundle
	group sync.WaitGroup
}

// watch is a list that is kept up to date.
type watch struct {
	bundles toolscache.Store
	synced  toolscache.DoneChecker
	stop    func()
}

// NewCache returns an empty Cache whose watch ends with ctx. changed is called, from any
// goroutine, with the UID of each Pod whose files a change of bundles concerns.
func NewCache(ctx context.Context, c client.WithWatch, clock clock.WithDelayedExecution, changed func(types.UID)) *Cache {
	return newCache(ctx, listerWatcher(c), clock, changed)
}

func newCache(ctx context.Context, source toolscache.ListerWatcher, clock clock.WithDelayedExecution, changed func(types.UID)) *Cache {
	return &Cache{source: source, clock: clock, changed: changed, ctx: ctx, pods: map[types.UID][]*corev1.ClusterTrustBundleProjection{}}
}

func listerWatcher(c client.WithWatch) toolscache.ListerWatcher {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := &certificatesv1.ClusterTrustBundleList{}
			return list, c.List(ctx, list, &client.ListOptions{Raw: &o})
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			return c.Watch(ctx, &certificatesv1.ClusterTrustBundleList{}, &client.ListOptions{Raw: &o})
		},
	}
}

// Wait returns when no watch runs; call it after the context has ended.
func (c *Cache) Wait() { c.group.Wait() }

// Track begins to watch when pod is the first to name a bundle.
func (c *Cache) Track(pod *keelsonv1.Pod) {
	sources := sourcesOf(pod)
	if len(sources) == 0 {
		c.Forget(pod.UID)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[pod.UID] = sources
	if c.watch == nil {
		c.beginLocked()
	}
}

// Forget ends the watch when the Pod was the last to name a bundle.
func (c *Cache) Forget(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.pods[uid]; !known {
		return
	}
	delete(c.pods, uid)
	if len(c.pods) == 0 {
		c.watch.stop()
		c.watch = nil
	}
}

func (c *Cache) beginLocked() {
	store, controller := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: c.source, ObjectType: &certificatesv1.ClusterTrustBundle{},
		Transform: withoutManagedFields,
		Handler: toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { c.wake(nil, bundleOf(o)) },
			UpdateFunc: func(before, o any) { c.wake(bundleOf(before), bundleOf(o)) },
			DeleteFunc: func(o any) { c.wake(bundleOf(o), nil) },
		},
	})
	stopped := make(chan struct{})
	c.watch = &watch{bundles: store, synced: controller.HasSyncedChecker(), stop: sync.OnceFunc(func() { close(stopped) })}
	c.group.Go(func() { c.run(controller, stopped) })
}

// run watches until stopped, or the end of the Cache.
func (c *Cache) run(controller toolscache.Controller, stopped <-chan struct{}) {
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	c.group.Go(func() {
		select {
		case <-stopped:
			cancel()
		case <-ctx.Done():
		}
	})
	controller.RunWithContext(ctx)
}

func withoutManagedFields(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}

// bundleOf is nil for what is none.
func bundleOf(object any) *certificatesv1.ClusterTrustBundle {
	if tombstone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	bundle, ok := object.(*certificatesv1.ClusterTrustBundle)
	if !ok {
		return nil
	}
	return bundle
}

func (c *Cache) wake(before, after *certificatesv1.ClusterTrustBundle) {
	if before != nil && after != nil && before.ResourceVersion == after.ResourceVersion {
		return
	}
	c.mu.Lock()
	var concerned []types.UID
	for uid, sources := range c.pods {
		for _, source := range sources {
			if concerns(source, before, after) {
				concerned = append(concerned, uid)
				break
			}
		}
	}
	c.mu.Unlock()
	for _, uid := range concerned {
		c.changed(uid)
	}
	klog.FromContext(c.ctx).V(4).Info("A bundle of trust has changed", "pods", len(concerned))
}

// Anchors returns the certificates that source selects, as PEM, for a Pod that is
// tracked. Its error says in upstream's words that they are not known, or not there and
// not optional.
func (c *Cache) Anchors(ctx context.Context, source *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	c.mu.Lock()
	w := c.watch
	c.mu.Unlock()
	if w == nil {
		return nil, fmt.Errorf("ClusterTrustBundles are not watched: no Pod of this node that still runs names one")
	}
	timeout := c.clock.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-w.synced.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timeout.C():
		return nil, fmt.Errorf("ClusterTrustBundle informer has not yet synced")
	}
	var bundles []*certificatesv1.ClusterTrustBundle
	for _, object := range w.bundles.List() {
		if bundle := bundleOf(object); bundle != nil {
			bundles = append(bundles, bundle)
		}
	}
	return computeAnchors(source, bundles)
}
