// Package model holds what the proxy needs to know of Services, their endpoints, host
// ports and this node, as plain values. It reads API objects and never keeps them, does
// no IO, and knows nothing of iptables. All of it is rebuilt from the API after a
// restart.
package model

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// Protocol is a transport protocol in the spelling of iptables: tcp, udp, sctp.
type Protocol string

// The protocols that Services and host ports may use.
const (
	TCP  Protocol = "tcp"
	UDP  Protocol = "udp"
	SCTP Protocol = "sctp"
)

// Family is an IP address family.
type Family bool

// The families.
const (
	IPv4 Family = false
	IPv6 Family = true
)

// String returns the API's spelling, which kube-proxy's metrics have too.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// Of reports whether an address is of this family; an IPv4 address written as IPv6 is
// of none.
func (f Family) Of(a netip.Addr) bool {
	return (f == IPv4 && a.Is4()) || (f == IPv6 && a.Is6() && !a.Is4In6())
}

// PortName names one port of one Service. Port is empty for a Service with one
// unnamed port.
type PortName struct {
	Service types.NamespacedName
	Port    string
}

// String returns "namespace/service:port", or "namespace/service" for an unnamed
// port; chain names are hashes of it.
func (n PortName) String() string {
	if n.Port == "" {
		return n.Service.String()
	}
	return n.Service.String() + ":" + n.Port
}

// ServicePort is one port of a Service in one family, with the addresses behind it.
type ServicePort struct {
	Name      PortName
	Protocol  Protocol
	ClusterIP netip.Addr
	Port      uint16
	// NodePort is zero when the Service is not published on the node's addresses.
	NodePort uint16
	// AffinitySeconds is how long a client keeps its endpoint; zero means no affinity.
	AffinitySeconds int32
	// ExternalIPs and LoadBalancerIPs are addresses outside of the cluster's ranges that
	// lead to the Service as well, of the family of ClusterIP.
	ExternalIPs, LoadBalancerIPs []netip.Addr
	// SourceRanges are who may use LoadBalancerIPs; empty means everybody.
	SourceRanges []netip.Prefix
	// ExternalLocal and InternalLocal send what comes from outside, or to ClusterIP, to
	// endpoints of this node only.
	ExternalLocal, InternalLocal bool
	// Endpoints are sorted and without repetition, also those that get no traffic.
	Endpoints []Endpoint
}

// External reports whether the port can be reached other than by ClusterIP.
func (p *ServicePort) External() bool {
	return p.NodePort != 0 || len(p.ExternalIPs)+len(p.LoadBalancerIPs) > 0
}

// Family is that of all addresses of the port.
func (p *ServicePort) Family() Family { return Family(p.ClusterIP.Is6()) }

// same compares all but endpoints.
func (p *ServicePort) same(o *ServicePort) bool {
	return p.Name == o.Name && p.Protocol == o.Protocol && p.ClusterIP == o.ClusterIP && p.Port == o.Port &&
		p.NodePort == o.NodePort && p.AffinitySeconds == o.AffinitySeconds &&
		p.ExternalLocal == o.ExternalLocal && p.InternalLocal == o.InternalLocal &&
		slices.Equal(p.ExternalIPs, o.ExternalIPs) && slices.Equal(p.LoadBalancerIPs, o.LoadBalancerIPs) &&
		slices.Equal(p.SourceRanges, o.SourceRanges)
}

// Endpoint is one address behind a port of a Service.
type Endpoint struct {
	Address netip.AddrPort
	// Ready and Serving tell whether it answers; a Ready one is not Terminating.
	Ready, Serving, Terminating bool
	// Local is set for endpoints of this node.
	Local bool
	// Hints say for whom the endpoint is meant; nil means for everybody.
	Hints *Hints
}

// Hints name the zones and nodes whose clients should use an endpoint.
type Hints struct {
	Zones, Nodes []string
}

func (e Endpoint) zones() []string {
	if e.Hints == nil {
		return nil
	}
	return e.Hints.Zones
}

func (e Endpoint) nodes() []string {
	if e.Hints == nil {
		return nil
	}
	return e.Hints.Nodes
}

// Equal compares what the hints say, not where they are.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.Address == o.Address && e.Ready == o.Ready && e.Serving == o.Serving &&
		e.Terminating == o.Terminating && e.Local == o.Local &&
		slices.Equal(e.zones(), o.zones()) && slices.Equal(e.nodes(), o.nodes())
}

// Service is everything the proxy does for one Service. A headless one, or one
// whose address is not allocated yet, has no ports.
type Service struct {
	Name  types.NamespacedName
	Ports []ServicePort
	// HealthCheckPort is where load balancers ask whether this node has endpoints; zero
	// for nowhere.
	HealthCheckPort uint16
}

// Of returns the Service with the ports of one family.
func (s Service) Of(family Family) Service {
	other := func(p ServicePort) bool { return p.Family() != family }
	if slices.ContainsFunc(s.Ports, other) {
		s.Ports = slices.DeleteFunc(slices.Clone(s.Ports), other)
	}
	if len(s.Ports) == 0 {
		s.HealthCheckPort = 0
	}
	return s
}

// HostPort publishes one port of a Pod of this node on the node's addresses.
type HostPort struct {
	// Pod is "namespace/name", for comments.
	Pod      string
	Protocol Protocol
	// HostIP restricts the port to one address; the zero value means every address,
	// 0.0.0.0 every IPv4 and :: every IPv6 address.
	HostIP   netip.Addr
	HostPort uint16
	// Target is the Pod's address and container port.
	Target netip.AddrPort
}

// Compare orders host ports so that rules do not depend on the order of Pods.
func (h HostPort) Compare(o HostPort) int {
	return cmp.Or(
		cmp.Compare(h.Protocol, o.Protocol),
		cmp.Compare(h.HostPort, o.HostPort),
		h.HostIP.Compare(o.HostIP),
		h.Target.Compare(o.Target),
		cmp.Compare(h.Pod, o.Pod),
	)
}

// Of reports whether the rules of a family can have this host port.
func (h HostPort) Of(family Family) bool {
	return h.Target.Port() != 0 && h.HostPort != 0 && h.Protocol != "" && family.Of(h.Target.Addr()) &&
		(!h.HostIP.IsValid() || family.Of(h.HostIP))
}
