package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/env"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
)

// serviceAddressWait bounds how long a container waits for the addresses of Services
// that are older than its Pod: the manager gives them out after the Service is made.
const serviceAddressWait = 2 * time.Second

// followServices starts the watch of Services.
func (a *agent) followServices(ctx context.Context) error {
	informer, err := a.api.cache.GetInformer(ctx, &keelsonv1.Service{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching Services: %w", err)
	}
	changed := func() { a.serviceChange.announce() }
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	})
	if err != nil {
		return fmt.Errorf("watching Services: %w", err)
	}
	return nil
}

// services implements lifecycle.Services from the cache. A container's variables are
// fixed when it starts, so it waits a moment for Services that get their address now.
func (a *agent) services(ctx context.Context, pod *keelsonv1.Pod) ([]keelsonv1.Service, error) {
	if staticpods.IsStatic(pod) && a.synced() != nil {
		return nil, nil // it runs without the API
	}
	var expired <-chan time.Time
	for {
		changed := a.serviceChange.next() // before reading, so that no change is missed
		services, err := a.listServices(ctx, pod.Namespace)
		if err != nil {
			return nil, err
		}
		awaited := env.AwaitedServices(pod, services)
		if len(awaited) == 0 {
			return services, nil
		}
		if expired == nil {
			timer := a.clock.NewTimer(a.serviceAddressWait)
			defer timer.Stop()
			expired = timer.C()
		}
		select {
		case <-changed:
		case <-expired:
			klog.FromContext(ctx).Info("Services have no cluster address, the container starts without their variables", "services", awaited)
			return services, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// listServices returns all Services that a Pod of the namespace may hear of.
func (a *agent) listServices(ctx context.Context, namespace string) ([]keelsonv1.Service, error) {
	var own keelsonv1.ServiceList
	if err := a.api.cache.List(ctx, &own, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	if namespace == "default" {
		return own.Items, nil
	}
	var server keelsonv1.Service
	err := a.api.cache.Get(ctx, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, &server)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if err == nil {
		own.Items = append(own.Items, server)
	}
	return own.Items, nil
}

// announcement tells any number of waiting goroutines that something has changed; it
// costs nothing while nobody waits.
type announcement struct {
	mu      sync.Mutex
	waiting chan struct{}
}

// next returns what is closed at the next change.
func (a *announcement) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(chan struct{})
	}
	return a.waiting
}

func (a *announcement) announce() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting != nil {
		close(a.waiting)
		a.waiting = nil
	}
}
