package proxy

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// watch feeds the tracker from the cache, and returns when every Service and all
// endpoints that existed at the start have been seen. The Node is not waited for: it may
// not exist yet.
func (p *Proxy) watch(ctx context.Context) error {
	services, err := addHandler(ctx, p, &keelsonv1.Service{}, p.tracker.SetService, p.tracker.DeleteService)
	if err != nil {
		return err
	}
	slices, err := addHandler(ctx, p, &discoveryv1.EndpointSlice{}, p.tracker.SetSlice, p.tracker.DeleteSlice)
	if err != nil {
		return err
	}
	if _, err := addHandler(ctx, p, &keelsonv1.Node{}, p.takeNode, func(types.NamespacedName) bool { return false }); err != nil {
		return err
	}
	toolscache.WaitForCacheSync(ctx.Done(), services.HasSynced, slices.HasSynced)
	return nil
}

// takeNode notes in which zone this node is.
func (p *Proxy) takeNode(node *keelsonv1.Node) bool {
	if node.Name == p.options.NodeName {
		p.setZone(node.Labels[corev1.LabelTopologyZone])
	}
	return false // setZone has triggered what there is to do
}

func addHandler[T client.Object](
	ctx context.Context, p *Proxy, object T, set func(T) bool, remove func(types.NamespacedName) bool,
) (toolscache.ResourceEventHandlerRegistration, error) {
	informer, err := p.options.Cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("watching %T: %w", object, err)
	}
	put := func(o any) {
		if typed, ok := o.(T); ok && set(typed) {
			p.trigger()
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    put,
		UpdateFunc: func(_, o any) { put(o) },
		DeleteFunc: func(o any) {
			if gone, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
				o = gone.Obj
			}
			if typed, ok := o.(T); ok && remove(client.ObjectKeyFromObject(typed)) {
				p.trigger()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching %T: %w", object, err)
	}
	return registration, nil
}
