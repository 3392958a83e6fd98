package model

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// labelServiceProxyName marks Services, and their slices, that another proxy serves.
const labelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// notOurs reports whether an object's labels say that the proxy has no business with
// it: another proxy has, or it belongs to a headless Service.
func notOurs(labels map[string]string) bool {
	_, other := labels[labelServiceProxyName]
	_, headless := labels[corev1.IsHeadlessService]
	return other || headless
}

// buildService returns a Service without endpoints; without ports when it has no cluster
// address (headless, ExternalName, not allocated yet) or is not ours.
func buildService(svc *keelsonv1.Service) Service {
	built := Service{Name: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}}
	if svc.Spec.Type == corev1.ServiceTypeExternalName || notOurs(svc.Labels) {
		return built
	}
	for _, ip := range clusterIPs(svc) {
		built.Ports = append(built.Ports, buildPorts(svc, ip)...)
	}
	if len(built.Ports) > 0 && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && externalLocal(svc) {
		built.HealthCheckPort = uint16(svc.Spec.HealthCheckNodePort)
	}
	return built
}

// clusterIPs returns one address of each family that the Service has.
func clusterIPs(svc *keelsonv1.Service) []netip.Addr {
	texts := svc.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{svc.Spec.ClusterIP}
	}
	return parse(texts, netip.ParseAddr)
}

// parse returns what can be understood of a list. Admission has refused the rest.
func parse[T any](texts []string, one func(string) (T, error)) []T {
	var out []T
	for _, text := range texts {
		if value, err := one(strings.TrimSpace(text)); err == nil {
			out = append(out, value)
		}
	}
	return out
}

func buildPorts(svc *keelsonv1.Service, ip netip.Addr) []ServicePort {
	family := Family(ip.Is6())
	otherFamily := func(a netip.Addr) bool { return !family.Of(a) }
	template := ServicePort{
		ClusterIP: ip, AffinitySeconds: affinitySeconds(svc),
		ExternalIPs:     slices.DeleteFunc(parse(svc.Spec.ExternalIPs, netip.ParseAddr), otherFamily),
		LoadBalancerIPs: slices.DeleteFunc(virtualIPs(svc), otherFamily),
		SourceRanges:    sourceRanges(svc, family),
		ExternalLocal:   externalLocal(svc),
		InternalLocal:   svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
	}
	ports := make([]ServicePort, 0, len(svc.Spec.Ports))
	for _, port := range svc.Spec.Ports {
		sp := template
		sp.Name = PortName{Service: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, Port: port.Name}
		sp.Protocol, sp.Port = protocolOf(port.Protocol), uint16(port.Port)
		if svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			sp.NodePort = uint16(port.NodePort)
		}
		ports = append(ports, sp)
	}
	return ports
}

// externalLocal reports whether the Service accepts traffic from outside and keeps it on
// the node that it reached.
func externalLocal(svc *keelsonv1.Service) bool {
	external := svc.Spec.Type == corev1.ServiceTypeLoadBalancer || svc.Spec.Type == corev1.ServiceTypeNodePort ||
		len(svc.Spec.ExternalIPs) > 0
	return external && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// virtualIPs returns the load balancer's addresses that packets still carry when they
// reach the node; a balancer that proxies connections sends to node ports instead.
func virtualIPs(svc *keelsonv1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		if ip, err := netip.ParseAddr(ingress.IP); err == nil {
			out = append(out, ip)
		}
	}
	return out
}

// sourceRanges returns who may use the load balancer's addresses of a family; a range
// with everybody in it is as good as none.
func sourceRanges(svc *keelsonv1.Service, family Family) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range parse(svc.Spec.LoadBalancerSourceRanges, netip.ParsePrefix) {
		switch {
		case !family.Of(p.Addr()):
		case p.Bits() == 0:
			return nil
		default:
			out = append(out, p.Masked())
		}
	}
	return out
}

func affinitySeconds(svc *keelsonv1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// protocolOf converts an API protocol; the API's default is TCP.
func protocolOf(p corev1.Protocol) Protocol {
	if p == "" {
		return TCP
	}
	return Protocol(strings.ToLower(string(p)))
}

// portKey finds the endpoints of a port of a Service.
type portKey struct {
	family   Family
	name     string
	protocol Protocol
}

// endpointsOf maps ports to what is behind them, sorted and without repetition.
type endpointsOf map[portKey][]Endpoint

// buildSlice returns the endpoints of an EndpointSlice for the node called node. Slices
// of names instead of addresses, and ports without a number, are not for proxies.
func buildSlice(slice *discoveryv1.EndpointSlice, node string) endpointsOf {
	var family Family
	switch slice.AddressType {
	case upstreamdiscoveryv1.AddressTypeIPv4:
		family = IPv4
	case upstreamdiscoveryv1.AddressTypeIPv6:
		family = IPv6
	default:
		return nil
	}
	out := endpointsOf{}
	for _, port := range slice.Ports {
		if port.Port == nil || *port.Port == 0 {
			continue
		}
		key := portKey{family: family}
		if port.Name != nil {
			key.name = *port.Name
		}
		key.protocol = TCP
		if port.Protocol != nil {
			key.protocol = protocolOf(*port.Protocol)
		}
		list := out[key]
		for i := range slice.Endpoints {
			if e, ok := buildEndpoint(&slice.Endpoints[i], uint16(*port.Port), family, node); ok {
				list = append(list, e)
			}
		}
		if len(list) > 0 {
			out[key] = compact(list)
		}
	}
	return out
}

func buildEndpoint(api *upstreamdiscoveryv1.Endpoint, port uint16, family Family, node string) (Endpoint, bool) {
	if len(api.Addresses) == 0 {
		return Endpoint{}, false
	}
	ip, err := netip.ParseAddr(api.Addresses[0]) // the others are for nobody, says the API
	if err != nil || !family.Of(ip) {
		return Endpoint{}, false
	}
	or := func(value *bool, missing bool) bool {
		if value == nil {
			return missing
		}
		return *value
	}
	e := Endpoint{
		Address:     netip.AddrPortFrom(ip, port),
		Ready:       or(api.Conditions.Ready, true),
		Serving:     or(api.Conditions.Serving, true),
		Terminating: or(api.Conditions.Terminating, false),
		Local:       node != "" && api.NodeName != nil && *api.NodeName == node,
	}
	if h := api.Hints; h != nil && len(h.ForZones)+len(h.ForNodes) > 0 {
		e.Hints = &Hints{}
		for _, zone := range h.ForZones {
			e.Hints.Zones = append(e.Hints.Zones, zone.Name)
		}
		for _, n := range h.ForNodes {
			e.Hints.Nodes = append(e.Hints.Nodes, n.Name)
		}
	}
	return e, true
}

// compact sorts endpoints and leaves one of each address. An address may be there twice,
// when it moves from slice to slice or when a new Pod has that of one that terminates:
// the one that does not terminate counts, as with kube-proxy.
func compact(list []Endpoint) []Endpoint {
	slices.SortStableFunc(list, func(a, b Endpoint) int {
		if c := a.Address.Compare(b.Address); c != 0 || a.Terminating == b.Terminating {
			return c
		}
		if a.Terminating {
			return 1
		}
		return -1
	})
	return slices.CompactFunc(list, func(a, b Endpoint) bool { return a.Address == b.Address })
}
