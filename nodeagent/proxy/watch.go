package proxy

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// watch feeds the tracker from the cache, and returns when every Service and Endpoints
// that existed at the start has been seen.
func (p *Proxy) watch(ctx context.Context) error {
	services, err := addHandler(ctx, p, &keelsonv1.Service{}, p.tracker.SetService, p.tracker.DeleteService)
	if err != nil {
		return err
	}
	endpoints, err := addHandler(ctx, p, &keelsonv1.Endpoints{}, p.tracker.SetEndpoints, p.tracker.DeleteEndpoints)
	if err != nil {
		return err
	}
	toolscache.WaitForCacheSync(ctx.Done(), services.HasSynced, endpoints.HasSynced)
	return nil
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
			p.runner.Trigger()
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
				p.runner.Trigger()
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("watching %T: %w", object, err)
	}
	return registration, nil
}
