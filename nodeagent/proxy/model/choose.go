package model

import "slices"

// Choice says which endpoints of a port get traffic on this node.
type Choice struct {
	// Cluster are those for traffic that may go to any node; nil when no traffic of the
	// port may. Local are those for traffic that must stay on this node.
	Cluster, Local []Endpoint
	// All is both together.
	All []Endpoint
	// Any tells whether there is an endpoint anywhere that could be used.
	Any bool
}

// UsesCluster reports whether some traffic of the port may go to any node. For external
// traffic that is so even with the policy Local: what comes from this node's Pods is
// treated as if it had gone out and come back in anywhere.
func (p *ServicePort) UsesCluster() bool { return !p.InternalLocal || p.External() }

// UsesLocal reports whether some traffic of the port must stay on this node.
func (p *ServicePort) UsesLocal() bool {
	return p.InternalLocal || (p.ExternalLocal && p.External())
}

// Choose returns the endpoints that traffic from the node called node in the zone goes
// to: the ready ones or, when there is none, those that still serve while they
// terminate; of the ready ones those that hints name for this node or zone, if every
// ready one has such hints and one is for us. The rules are kube-proxy's
// (pkg/proxy/topology.go).
func (p *ServicePort) Choose(node, zone string) Choice {
	var c Choice
	if len(p.Endpoints) == 0 {
		return c
	}
	hinted := false
	if p.UsesCluster() {
		var near func(Endpoint) bool
		near, hinted = p.hints(node, zone)
		c.Cluster = keep(p.Endpoints, func(e Endpoint) bool { return e.Ready && near(e) })
		if len(c.Cluster) == 0 {
			c.Cluster = keep(p.Endpoints, draining)
		}
		c.Any = len(c.Cluster) > 0
	}
	if !p.UsesLocal() {
		c.All = c.Cluster
		return c
	}
	c.Any = c.Any || slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return e.Ready || draining(e) })
	c.Local = keep(p.Endpoints, func(e Endpoint) bool { return e.Local && e.Ready })
	fallback := false
	if len(c.Local) == 0 {
		c.Local = keep(p.Endpoints, func(e Endpoint) bool { return e.Local && draining(e) })
		fallback = len(c.Local) > 0
	}
	switch {
	case !p.UsesCluster():
		c.All = c.Local
	case !hinted && !fallback:
		c.All = c.Cluster // has the local ones
	default:
		c.All = slices.Concat(c.Cluster, c.Local)
		slices.SortFunc(c.All, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
		c.All = slices.CompactFunc(c.All, func(a, b Endpoint) bool { return a.Address == b.Address })
	}
	return c
}

func draining(e Endpoint) bool { return e.Serving && e.Terminating }

// hints returns which ready endpoints are near, and whether that excludes any: hints for
// nodes go before those for zones.
func (p *ServicePort) hints(node, zone string) (near func(Endpoint) bool, hinted bool) {
	forNode := func(e Endpoint) bool { return slices.Contains(e.nodes(), node) }
	forZone := func(e Endpoint) bool { return slices.Contains(e.zones(), zone) }
	ready, allNodes, allZones, oneNode, oneZone := false, true, true, false, false
	for _, e := range p.Endpoints {
		if !e.Ready {
			continue
		}
		ready = true
		allNodes, oneNode = allNodes && len(e.nodes()) > 0, oneNode || forNode(e)
		allZones, oneZone = allZones && len(e.zones()) > 0, oneZone || forZone(e)
	}
	switch {
	case ready && allNodes && oneNode:
		return forNode, true
	case ready && allZones && oneZone:
		return forZone, true
	}
	return func(Endpoint) bool { return true }, false
}

// keep returns the endpoints for which f holds; all of them without a copy.
func keep(endpoints []Endpoint, f func(Endpoint) bool) []Endpoint {
	if !slices.ContainsFunc(endpoints, func(e Endpoint) bool { return !f(e) }) {
		return endpoints
	}
	var kept []Endpoint
	for _, e := range endpoints {
		if f(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// LocalReady returns the number of addresses of this node behind the ports of a
// Service, which is what load balancers that ask its health check port hear.
func (s Service) LocalReady() int {
	seen := map[string]struct{}{}
	for _, p := range s.Ports {
		for _, e := range p.Endpoints {
			if e.Local && e.Ready {
				seen[e.Address.Addr().String()] = struct{}{}
			}
		}
	}
	return len(seen)
}
