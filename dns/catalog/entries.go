package catalog

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	keelsondiscoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

func (k Key) compare(o Key) int {
	return cmp.Or(strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Port is a port that a name can stand for. Number is -1 where the object declares none.
type Port struct {
	Name, Protocol string
	Number         int32
}

// Service is what answers are made of.
type Service struct {
	Key
	// ExternalName is set for Services that stand for another name, and for no others.
	ExternalName string
	// Headless Services have no address of their own.
	Headless bool
	// Addresses are the cluster addresses, none while they are being allocated.
	Addresses []string
	Ports     []Port
}

func (s *Service) terms() []string { return s.Addresses }

func (s *Service) equal(o *Service) bool {
	return s.Key == o.Key && s.ExternalName == o.ExternalName && s.Headless == o.Headless &&
		slices.Equal(s.Addresses, o.Addresses) && slices.Equal(s.Ports, o.Ports)
}

func serviceOf(object any) (*Service, bool) {
	in, ok := object.(*keelsonv1.Service)
	if !ok {
		return nil, false
	}
	s := &Service{Key: Key{in.Namespace, in.Name}}
	if in.Spec.Type == corev1.ServiceTypeExternalName {
		s.ExternalName = in.Spec.ExternalName
		return s, s.ExternalName != ""
	}
	addresses := in.Spec.ClusterIPs
	if len(addresses) == 0 && in.Spec.ClusterIP != "" {
		addresses = []string{in.Spec.ClusterIP}
	}
	s.Headless = slices.Contains(addresses, corev1.ClusterIPNone)
	if !s.Headless {
		s.Addresses = slices.Clone(addresses)
	}
	for _, p := range in.Spec.Ports {
		s.Ports = append(s.Ports, Port{Name: p.Name, Protocol: string(cmp.Or(p.Protocol, corev1.ProtocolTCP)), Number: p.Port})
	}
	if len(s.Ports) == 0 {
		s.Ports = []Port{{Number: -1}}
	}
	return s, true
}

// Endpoint is one address behind a Service.
type Endpoint struct {
	Address string
	// Hostname is the Pod's, if it has one in the Service's domain; Target the Pod's name.
	Hostname, Target string
}

// Slice is a part of the ready endpoints of a Service.
type Slice struct {
	Key
	// Service is the name of the Service, in the slice's namespace.
	Service   string
	Endpoints []Endpoint
	Ports     []Port
}

// serviceTerm is what slices of a Service are found under; no address has a slash.
func serviceTerm(k Key) string { return k.Namespace + "/" + k.Name }

func (s *Slice) terms() []string {
	terms := []string{serviceTerm(Key{s.Namespace, s.Service})}
	for _, e := range s.Endpoints {
		terms = append(terms, e.Address)
	}
	return terms
}

func (s *Slice) equal(o *Slice) bool {
	return s.Key == o.Key && s.Service == o.Service && slices.Equal(s.Endpoints, o.Endpoints) && slices.Equal(s.Ports, o.Ports)
}

func sliceOf(object any) (*Slice, bool) {
	in, ok := object.(*keelsondiscoveryv1.EndpointSlice)
	if !ok || in.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, false
	}
	s := &Slice{Key: Key{in.Namespace, in.Name}, Service: in.Labels[discoveryv1.LabelServiceName], Ports: slicePorts(in.Ports)}
	for _, e := range in.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready { // unknown counts as ready
			continue
		}
		target := ""
		if e.TargetRef != nil {
			target = e.TargetRef.Name
		}
		for _, address := range e.Addresses {
			s.Endpoints = append(s.Endpoints, Endpoint{Address: address, Hostname: deref(e.Hostname), Target: target})
		}
	}
	return s, len(s.Endpoints) > 0
}

func slicePorts(in []discoveryv1.EndpointPort) []Port {
	if len(in) == 0 {
		return []Port{{Number: -1}}
	}
	ports := make([]Port, 0, len(in))
	for _, p := range in {
		port := Port{Name: deref(p.Name), Protocol: string(deref(p.Protocol)), Number: -1}
		if p.Port != nil {
			port.Number = *p.Port
		}
		ports = append(ports, port)
	}
	return ports
}

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// namespace is one whose names are served.
type namespace struct{}

func (namespace) terms() []string { return nil }

func (namespace) equal(namespace) bool { return true }

// namespaceOf keeps the namespaces that selector and names let through; nil and empty
// let everything through.
func namespaceOf(selector labels.Selector, names []string) func(any) (namespace, bool) {
	return func(object any) (namespace, bool) {
		in, ok := object.(*corev1.Namespace)
		if !ok || len(names) > 0 && !slices.Contains(names, in.Name) || selector != nil && !selector.Matches(labels.Set(in.Labels)) {
			return namespace{}, false
		}
		return namespace{}, true
	}
}

// Pod is a Pod with an address.
type Pod struct {
	Key
	Addresses []string
}

func (p *Pod) terms() []string { return p.Addresses }

func (p *Pod) equal(o *Pod) bool { return p.Key == o.Key && slices.Equal(p.Addresses, o.Addresses) }

// podOf keeps Pods that have an address and have not ended.
func podOf(object any) (*Pod, bool) {
	in, ok := object.(*keelsonv1.Pod)
	if !ok || in.Status.Phase == corev1.PodSucceeded || in.Status.Phase == corev1.PodFailed {
		return nil, false
	}
	p := &Pod{Key: Key{in.Namespace, in.Name}}
	for _, ip := range in.Status.PodIPs {
		p.Addresses = append(p.Addresses, ip.IP)
	}
	if len(p.Addresses) == 0 && in.Status.PodIP != "" {
		p.Addresses = []string{in.Status.PodIP}
	}
	return p, len(p.Addresses) > 0
}
