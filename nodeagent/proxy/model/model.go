// Package model holds what the proxy needs to know of Services, Endpoints, host
// ports and this node, as plain comparable values. It reads API objects and never
// keeps them, does no IO, and knows nothing of iptables. All of it is rebuilt from
// the API after a restart.
package model

import (
	"cmp"
	"net/netip"

	"k8s.io/apimachinery/pkg/types"
)

// Protocol is a transport protocol in the spelling of iptables: tcp, udp.
type Protocol string

// The protocols that Services and host ports may use.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

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

// ServicePort is one port of a Service with the addresses behind it.
type ServicePort struct {
	Name      PortName
	Protocol  Protocol
	ClusterIP netip.Addr
	Port      uint16
	// NodePort is zero when the Service is not published on the node's addresses.
	NodePort uint16
	// AffinitySeconds is how long a client keeps its endpoint; zero means no affinity.
	AffinitySeconds int32
	// Endpoints are sorted and without repetition.
	Endpoints []netip.AddrPort
}

// Service is everything the proxy does for one Service. A headless one, or one
// whose address is not allocated yet, has no ports.
type Service struct {
	Name  types.NamespacedName
	Ports []ServicePort
}

// HostPort publishes one port of a Pod of this node on the node's addresses.
type HostPort struct {
	// Pod is "namespace/name", for comments.
	Pod      string
	Protocol Protocol
	// HostIP restricts the port to one address; zero or 0.0.0.0 means every address.
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

