package model

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Tracker merges Service and Endpoints events into the state of each Service, and
// remembers which Services changed since it was last asked. An event that changes
// nothing the proxy uses marks nothing. It is safe for concurrent use.
type Tracker struct {
	mu        sync.Mutex
	services  map[types.NamespacedName][]ServicePort
	endpoints map[types.NamespacedName]endpointsOf
	dirty     map[types.NamespacedName]struct{}
}

// NewTracker returns an empty tracker.
func NewTracker() *Tracker {
	return &Tracker{
		services:  map[types.NamespacedName][]ServicePort{},
		endpoints: map[types.NamespacedName]endpointsOf{},
		dirty:     map[types.NamespacedName]struct{}{},
	}
}

// SetService records a Service as added or changed and reports whether that matters.
func (t *Tracker) SetService(svc *keelsonv1.Service) bool {
	return t.putPorts(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, buildPorts(svc))
}

// DeleteService forgets a Service and reports whether that matters.
func (t *Tracker) DeleteService(name types.NamespacedName) bool {
	return t.putPorts(name, nil)
}

func (t *Tracker) putPorts(name types.NamespacedName, ports []ServicePort) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.EqualFunc(t.services[name], ports, samePort) {
		return false
	}
	if len(ports) == 0 {
		delete(t.services, name)
	} else {
		t.services[name] = ports
	}
	t.dirty[name] = struct{}{}
	return true
}

func samePort(a, b ServicePort) bool {
	return a.Name == b.Name && a.Protocol == b.Protocol && a.ClusterIP == b.ClusterIP && a.Port == b.Port &&
		a.NodePort == b.NodePort && a.AffinitySeconds == b.AffinitySeconds
}

// SetEndpoints records an Endpoints as added or changed and reports whether that
// matters.
func (t *Tracker) SetEndpoints(eps *keelsonv1.Endpoints) bool {
	return t.putEndpoints(types.NamespacedName{Namespace: eps.Namespace, Name: eps.Name}, buildEndpoints(eps))
}

// DeleteEndpoints forgets an Endpoints and reports whether that matters.
func (t *Tracker) DeleteEndpoints(name types.NamespacedName) bool {
	return t.putEndpoints(name, nil)
}

func (t *Tracker) putEndpoints(name types.NamespacedName, eps endpointsOf) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if maps.EqualFunc(t.endpoints[name], eps, slices.Equal) {
		return false
	}
	if len(eps) == 0 {
		delete(t.endpoints, name)
	} else {
		t.endpoints[name] = eps
	}
	if _, used := t.services[name]; !used {
		return false
	}
	t.dirty[name] = struct{}{}
	return true
}

// TakeChanged returns the present state of every Service that changed since the last
// call, ordered by name. A Service without ports is gone.
func (t *Tracker) TakeChanged() []Service {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := make([]Service, 0, len(t.dirty))
	for name := range t.dirty {
		changed = append(changed, t.service(name))
	}
	clear(t.dirty)
	slices.SortFunc(changed, func(a, b Service) int { return CompareNames(a.Name, b.Name) })
	return changed
}

func (t *Tracker) service(name types.NamespacedName) Service {
	ports := slices.Clone(t.services[name])
	for i := range ports {
		key := portKey{name: ports[i].Name.Port, protocol: ports[i].Protocol}
		ports[i].Endpoints = t.endpoints[name][key]
	}
	return Service{Name: name, Ports: ports}
}

// CompareNames orders by namespace, then name.
func CompareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
