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
	facts model.NodeFacts
	local map[netip.Addr]bool
	// addresses are ClusterIPs with port, ports are node and host ports.
	addresses map[netip.AddrPort]endpointSet
	ports     map[uint16]endpointSet
}

type endpointSet map[netip.AddrPort]bool

// NewWanted returns what is wanted of a node with these facts and local addresses when
// there is no Service.
func NewWanted(facts model.NodeFacts, local []netip.Addr) *Wanted {
	w := &Wanted{
		facts: facts, local: map[netip.Addr]bool{},
		addresses: map[netip.AddrPort]endpointSet{}, ports: map[uint16]endpointSet{},
	}
	for _, a := range local {
		w.local[a] = true
	}
	for _, a := range facts.NodeIPs {
		w.local[a] = true
	}
	return w
}

// AddService adds the UDP ports of a Service.
func (w *Wanted) AddService(svc model.Service) {
	for _, p := range svc.Ports {
		if p.Protocol != model.UDP {
			continue
		}
		set := endpointSet{}
		for _, endpoint := range p.Endpoints {
			set[endpoint] = true
		}
		w.addresses[netip.AddrPortFrom(p.ClusterIP, p.Port)] = set
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
	translated := f.To != f.From
	if w.facts.ServiceCIDR.Contains(f.To.Addr()) {
		return true
	}
	if !w.local[f.To.Addr()] {
		return false
	}
	if set, known := w.ports[f.To.Port()]; known {
		return !set[f.From]
	}
	// A port that we do not know any more, translated into the Pod range: nobody else
	// does that.
	return translated && w.facts.ClusterCIDR.Contains(f.From.Addr())
}
