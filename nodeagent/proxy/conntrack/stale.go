// Package conntrack forgets connections that the kernel would keep sending to the
// wrong place: UDP has no end of connection, so a client that keeps talking keeps its
// translation, to an endpoint that is gone or to no endpoint at all.
//
// It compares the kernel's whole table with what is wanted now, so that nothing is
// missed over a restart, and never touches TCP or connections that are not to a
// Service, node port or host port.
package conntrack

import (
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Flow is one UDP connection as the kernel holds it.
type Flow struct {
	// To is what the client sent to; From is who answers it. They differ when the
	// connection is translated.
	To, From netip.AddrPort
}

// Wanted is where UDP connections to this node's Services and ports should go.
type Wanted struct {
	cluster, services netip.Prefix
	local             map[netip.Addr]bool
	// addresses are those of Services with port, ports are node and host ports.
	addresses map[netip.AddrPort]endpointSet
	ports     map[uint16]endpointSet
}

type endpointSet map[netip.AddrPort]bool

// NewWanted returns what is wanted of a node with these addresses when there is no
// Service: cluster is the range of all Pods, services that of cluster addresses.
func NewWanted(cluster, services netip.Prefix, local []netip.Addr) *Wanted {
	w := &Wanted{
		cluster: cluster, services: services, local: map[netip.Addr]bool{},
		addresses: map[netip.AddrPort]endpointSet{}, ports: map[uint16]endpointSet{},
	}
	for _, a := range local {
		w.local[a] = true
	}
	return w
}

// AddService adds the UDP ports of a Service. Connections to every endpoint that still
// serves may go on, whether or not it would get new ones: as with TCP, a change of
// policy breaks none.
func (w *Wanted) AddService(svc model.Service) {
	for _, p := range svc.Ports {
		if p.Protocol != model.UDP {
			continue
		}
		set := endpointSet{}
		for _, e := range p.Endpoints {
			if e.Serving || e.Ready {
				set[e.Address] = true
			}
		}
		w.addresses[netip.AddrPortFrom(p.ClusterIP, p.Port)] = set
		for _, ip := range slices.Concat(p.ExternalIPs, p.LoadBalancerIPs) {
			w.addresses[netip.AddrPortFrom(ip, p.Port)] = set
		}
		if p.NodePort != 0 {
			w.ports[p.NodePort] = set
		}
	}
}

// AddHostPort adds a host port.
func (w *Wanted) AddHostPort(h model.HostPort) {
	if h.Protocol != model.UDP {
		return
	}
	if w.ports[h.HostPort] == nil {
		w.ports[h.HostPort] = endpointSet{}
	}
	w.ports[h.HostPort][h.Target] = true
}

// Stale reports whether a connection goes where it should not any more.
func (w *Wanted) Stale(f Flow) bool {
	if set, known := w.addresses[f.To]; known {
		return !set[f.From]
	}
	if w.services.IsValid() && w.services.Contains(f.To.Addr()) {
		return true
	}
	if w.local[f.To.Addr()] {
		if set, known := w.ports[f.To.Port()]; known {
			return !set[f.From]
		}
	}
	// A port or address that we do not know any more, translated into the Pod range:
	// nobody else does that.
	return f.To != f.From && w.cluster.IsValid() && w.cluster.Contains(f.From.Addr())
}
