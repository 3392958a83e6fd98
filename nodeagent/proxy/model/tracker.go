package model

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// Tracker merges the events of Services and EndpointSlices into the state of each
// Service, and remembers which Services changed since it was last asked. An event that
// changes nothing the proxy uses marks nothing. It is safe for concurrent use.
type Tracker struct {
	node  string
	start time.Time

	mu       sync.Mutex
	services map[types.NamespacedName]Service
	// slices are kept by the name of the Service that they belong to, then by their own;
	// owners finds a slice whose label has changed.
	slices map[types.NamespacedName]map[string]endpointsOf
	owners map[types.NamespacedName]string
	dirty  map[types.NamespacedName]struct{}
	counts Counts
	// triggers are the times at which what changed the endpoints of dirty Services
	// happened.
	triggers []time.Time
}

// Counts are the events so far that mattered.
type Counts struct {
	Services, Slices int
}

// Changes are what happened since the last call of TakeChanged.
type Changes struct {
	// Services are in their present state, ordered by name. One without ports is gone.
	Services []Service
	// Triggers are when Pods or Services changed that made endpoints change.
	Triggers []time.Time
}

// NewTracker returns an empty tracker for the node called node. Changes that happened
// before start are no measure of how fast it is.
func NewTracker(node string, start time.Time) *Tracker {
	return &Tracker{
		node: node, start: start,
		services: map[types.NamespacedName]Service{},
		slices:   map[types.NamespacedName]map[string]endpointsOf{},
		owners:   map[types.NamespacedName]string{},
		dirty:    map[types.NamespacedName]struct{}{},
	}
}

// SetService records a Service as added or changed and reports whether that matters.
func (t *Tracker) SetService(svc *keelsonv1.Service) bool { return t.putService(buildService(svc)) }

// DeleteService forgets a Service and reports whether that matters.
func (t *Tracker) DeleteService(name types.NamespacedName) bool {
	return t.putService(Service{Name: name})
}

func (t *Tracker) putService(svc Service) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.services[svc.Name]
	same := func(a, b ServicePort) bool { return a.same(&b) }
	if old.HealthCheckPort == svc.HealthCheckPort && slices.EqualFunc(old.Ports, svc.Ports, same) {
		return false
	}
	if len(svc.Ports) == 0 {
		delete(t.services, svc.Name)
	} else {
		t.services[svc.Name] = svc
	}
	t.dirty[svc.Name] = struct{}{}
	t.counts.Services++
	return true
}

// SetSlice records an EndpointSlice as added or changed and reports whether that
// matters.
func (t *Tracker) SetSlice(slice *discoveryv1.EndpointSlice) bool {
	service := slice.Labels[upstreamdiscoveryv1.LabelServiceName]
	if service == "" || notOurs(slice.Labels) {
		return t.DeleteSlice(types.NamespacedName{Namespace: slice.Namespace, Name: slice.Name})
	}
	return t.putSlice(&slice.ObjectMeta, service, buildSlice(slice, t.node))
}

// DeleteSlice forgets an EndpointSlice and reports whether that matters.
func (t *Tracker) DeleteSlice(name types.NamespacedName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.removeSlice(name)
}

func (t *Tracker) putSlice(meta *metav1.ObjectMeta, service string, eps endpointsOf) bool {
	name := types.NamespacedName{Namespace: meta.Namespace, Name: meta.Name}
	owner := types.NamespacedName{Namespace: meta.Namespace, Name: service}
	t.mu.Lock()
	defer t.mu.Unlock()
	moved := false
	if was, known := t.owners[name]; known && was != service {
		moved = t.removeSlice(name)
	}
	if len(eps) == 0 {
		return t.removeSlice(name) || moved
	}
	if maps.EqualFunc(t.slices[owner][name.Name], eps, sameEndpoints) {
		return moved
	}
	if t.slices[owner] == nil {
		t.slices[owner] = map[string]endpointsOf{}
	}
	t.slices[owner][name.Name], t.owners[name] = eps, service
	if at, err := time.Parse(time.RFC3339Nano, meta.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil && at.After(t.start) {
		t.triggers = append(t.triggers, at)
	}
	return t.markSlice(owner) || moved
}

func sameEndpoints(a, b []Endpoint) bool { return slices.EqualFunc(a, b, Endpoint.Equal) }

func (t *Tracker) removeSlice(name types.NamespacedName) bool {
	service, known := t.owners[name]
	if !known {
		return false
	}
	owner := types.NamespacedName{Namespace: name.Namespace, Name: service}
	delete(t.owners, name)
	if delete(t.slices[owner], name.Name); len(t.slices[owner]) == 0 {
		delete(t.slices, owner)
	}
	return t.markSlice(owner)
}

// markSlice marks the Service of a changed slice, if the proxy serves it.
func (t *Tracker) markSlice(owner types.NamespacedName) bool {
	t.counts.Slices++
	if _, used := t.services[owner]; !used {
		return false
	}
	t.dirty[owner] = struct{}{}
	return true
}

// Counts returns how many events mattered, and how many Services wait to be taken.
func (t *Tracker) Counts() (counts Counts, pending int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts, len(t.dirty)
}

// TakeChanged returns what changed since the last call.
func (t *Tracker) TakeChanged() Changes {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := Changes{Services: make([]Service, 0, len(t.dirty)), Triggers: t.triggers}
	for name := range t.dirty {
		changed.Services = append(changed.Services, t.service(name))
	}
	clear(t.dirty)
	t.triggers = nil
	slices.SortFunc(changed.Services, func(a, b Service) int { return CompareNames(a.Name, b.Name) })
	return changed
}

func (t *Tracker) service(name types.NamespacedName) Service {
	svc := t.services[name]
	svc.Name, svc.Ports = name, slices.Clone(svc.Ports)
	for i := range svc.Ports {
		p := &svc.Ports[i]
		p.Endpoints = t.merged(name, portKey{family: p.Family(), name: p.Name.Port, protocol: p.Protocol})
	}
	return svc
}

// merged puts the slices of a port together.
func (t *Tracker) merged(name types.NamespacedName, key portKey) []Endpoint {
	var first, all []Endpoint
	for _, slice := range slices.Sorted(maps.Keys(t.slices[name])) {
		switch list := t.slices[name][slice][key]; {
		case len(list) == 0:
		case first == nil:
			first = list
		default:
			if all == nil {
				all = slices.Clone(first)
			}
			all = append(all, list...)
		}
	}
	if all == nil {
		return first
	}
	return compact(all)
}

// CompareNames orders by namespace, then name.
func CompareNames(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
