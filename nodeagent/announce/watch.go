package announce

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// StripNode keeps of a Node what counts here; it is the transform of Options.Nodes.
func StripNode(object any) (any, error) {
	n, ok := object.(*keelsonv1.Node)
	if !ok {
		return object, nil // a tombstone
	}
	slim := &keelsonv1.Node{TypeMeta: n.TypeMeta}
	slim.ObjectMeta = metav1.ObjectMeta{Name: n.Name, UID: n.UID, ResourceVersion: n.ResourceVersion, Labels: n.Labels}
	slim.Spec.Unschedulable = n.Spec.Unschedulable
	slim.Status.Conditions = n.Status.Conditions
	return slim, nil
}

// watch follows all that the choice depends on, and returns what tells that it is known.
func (a *Announcer) watch(ctx context.Context) ([]toolscache.InformerSynced, error) {
	var synced []toolscache.InformerSynced
	follow := func(c cache.Cache, object client.Object, handler toolscache.ResourceEventHandler) error {
		informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		registration, err := informer.AddEventHandler(handler)
		if err != nil {
			return fmt.Errorf("watching %T: %w", object, err)
		}
		synced = append(synced, registration.HasSynced)
		return nil
	}
	poke := func(any) { a.poke() }
	everything := toolscache.ResourceEventHandlerFuncs{AddFunc: poke, UpdateFunc: func(_, object any) { poke(object) }, DeleteFunc: poke}
	if err := follow(a.options.Cache, &keelsonv1.Service{}, everything); err != nil {
		return nil, err
	}
	if err := follow(a.options.Cache, &discoveryv1.EndpointSlice{}, everything); err != nil {
		return nil, err
	}
	observe := func(object any) {
		if n, ok := object.(*keelsonv1.Node); ok {
			a.put(n.Name, toMember(n))
		}
	}
	err := follow(a.options.Nodes, &keelsonv1.Node{}, toolscache.ResourceEventHandlerFuncs{
		AddFunc: observe, UpdateFunc: func(_, object any) { observe(object) },
		DeleteFunc: func(object any) {
			if name, err := toolscache.DeletionHandlingObjectToName(object); err == nil {
				a.remove(name.Name)
			}
		},
	})
	return synced, err
}

// put notes a Node; its heartbeats change nothing.
func (a *Announcer) put(name string, m member) {
	a.mu.Lock()
	old, known := a.members[name]
	a.members[name] = m
	a.mu.Unlock()
	if !known || old != m {
		a.poke()
	}
}

func (a *Announcer) remove(name string) {
	a.mu.Lock()
	delete(a.members, name)
	a.mu.Unlock()
	a.poke()
}

func (a *Announcer) poke() {
	select {
	case a.changed <- struct{}{}:
	default: // one is waiting already
	}
}
