package render

import (
	"net/netip"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// ServiceRules is what one Service contributes.
type ServiceRules struct {
	// Chains are its own.
	Chains []iptables.Chain
	// Shared are its rules in chains that it shares with others. Those that lead to its
	// own chains are there even without endpoints, so that endpoints coming and going
	// leave them as they are; what differs are the few that refuse traffic.
	Shared map[ChainID][]iptables.Rule
	// Groups are the parts of the Service range that its addresses are in.
	Groups []netip.Prefix
	// Unserved counts ports that have endpoints, but none that their policy allows here.
	Unserved Unserved
}

// Unserved counts ports of the policies Local, for internal and external traffic, that
// have endpoints on other nodes only.
type Unserved struct {
	Internal, External int
}

// Service renders one Service.
func Service(svc model.Service, facts Facts) ServiceRules {
	out := ServiceRules{Shared: map[ChainID][]iptables.Rule{}}
	for i := range svc.Ports {
		p := portRules{
			ServiceRules: &out, facts: facts, port: &svc.Ports[i], name: svc.Ports[i].Name.String(),
			choice: svc.Ports[i].Choose(facts.Node, facts.Zone),
		}
		p.render()
	}
	if svc.HealthCheckPort != 0 {
		out.share(ChainID{iptables.Filter, HealthPorts},
			match{}.dport(model.TCP, svc.HealthCheckPort).then("-j ACCEPT", svc.Name.String()+" health check"))
	}
	return out
}

func (s *ServiceRules) share(id ChainID, rules ...iptables.Rule) {
	s.Shared[id] = append(s.Shared[id], rules...)
}

// portRules renders one port.
type portRules struct {
	*ServiceRules
	facts  Facts
	port   *model.ServicePort
	name   string
	choice model.Choice
}

func (r *portRules) render() {
	r.clusterIP()
	if r.port.UsesCluster() {
		r.policyChain(ServiceChain(r.port), r.choice.Cluster)
	}
	if r.port.UsesLocal() {
		r.policyChain(LocalChain(r.port), r.choice.Local)
	}
	for _, e := range r.choice.All {
		if r.hasChain(e) {
			r.endpointChain(e)
		}
	}
	r.noteRefusals()
	if r.port.External() {
		r.external()
	}
}

// clusterIP leads the cluster address to the chain of its policy, and refuses what that
// cannot serve: with endpoints on other nodes only it is dropped, as kube-proxy does.
func (r *portRules) clusterIP() {
	p := r.port
	portal := match{}.to(host(p.ClusterIP)).dport(p.Protocol, p.Port)
	target := ServiceChain(p)
	if p.InternalLocal {
		target = LocalChain(p)
	}
	entry := portal.jump(target, r.name+" cluster IP")
	inRange := r.facts.Services.IsValid() && r.facts.Services.Contains(p.ClusterIP)
	if inRange {
		group := groupOf(r.facts.Services, p.ClusterIP)
		r.Groups = append(r.Groups, group)
		r.share(ChainID{iptables.NAT, GroupChain(group)}, entry)
	} else {
		r.share(ChainID{iptables.NAT, Services},
			masqueradeOutsiders(portal, r.facts, r.name+" from outside of the Pod range"), entry)
	}
	switch {
	case !r.choice.Any && !inRange:
		r.share(ChainID{iptables.Filter, Reject}, portal.then(r.facts.reject(p.Protocol), r.name+" has no endpoints"))
	case r.choice.Any && p.InternalLocal && len(r.choice.Local) == 0:
		r.Unserved.Internal++
		r.share(ChainID{iptables.Filter, Reject}, portal.then("-j DROP", r.name+" has no local endpoints"))
	}
}

// hasChain reports whether an endpoint has a chain of its own: when more than one rule
// is needed to send there. All others are one rule of the port's chain, because the cost
// of a change grows with the number of chains on the node.
func (r *portRules) hasChain(e model.Endpoint) bool {
	return r.port.AffinitySeconds > 0 || r.facts.ownPod(e)
}

// endpointChain sends to one endpoint, takes note of the client when it has affinity,
// and marks what an endpoint sends to itself.
func (r *portRules) endpointChain(e model.Endpoint) {
	chain := iptables.Chain{Table: iptables.NAT, Name: EndpointChain(r.port, e.Address)}
	send := match{}.proto(r.port.Protocol)
	if r.port.AffinitySeconds > 0 {
		send = send.remember(chain.Name)
	}
	chain.Rules = []iptables.Rule{
		match{}.from(host(e.Address.Addr())).jump(MarkMasq, r.name+" hairpin"),
		send.then("-j DNAT --to-destination "+e.Address.String(), r.name),
	}
	r.Chains = append(r.Chains, chain)
}

// policyChain chooses an endpoint: the one that the client used before when it has
// affinity, otherwise each with the same probability. Those that refuse are chosen when
// all do.
func (r *portRules) policyChain(name string, endpoints []model.Endpoint) {
	chain := iptables.Chain{Table: iptables.NAT, Name: name}
	avoids := r.avoidsRefusing(endpoints)
	if r.port.AffinitySeconds > 0 {
		for _, e := range endpoints {
			list, known := EndpointChain(r.port, e.Address), match{}
			if avoids {
				known = r.willing(known, e)
			}
			chain.Rules = append(chain.Rules, known.remembered(list, r.port.AffinitySeconds).jump(list, r.name+" to "+e.Address.String()))
		}
	}
	if avoids {
		chain.Rules = append(chain.Rules, r.choices(endpoints, func(m match, i int) match {
			return r.willing(chance(m, endpoints, i), endpoints[i])
		})...)
		// Chance has passed over one that is willing, and then all others refused.
		chain.Rules = append(chain.Rules, r.choices(endpoints[:len(endpoints)-1], func(m match, i int) match {
			return r.willing(m, endpoints[i])
		})...)
	}
	chain.Rules = append(chain.Rules, r.choices(endpoints, func(m match, i int) match { return chance(m, endpoints, i) })...)
	r.Chains = append(r.Chains, chain)
}

// chance gives an endpoint the same probability as those after it.
func chance(m match, endpoints []model.Endpoint, i int) match {
	if left := len(endpoints) - i; left > 1 {
		return m.oneOf(left)
	}
	return m
}

// choices are a rule for each endpoint that sends there what narrow lets through.
func (r *portRules) choices(endpoints []model.Endpoint, narrow func(m match, i int) match) []iptables.Rule {
	rules := make([]iptables.Rule, 0, len(endpoints))
	for i, e := range endpoints {
		if r.hasChain(e) {
			rules = append(rules, narrow(nil, i).jump(EndpointChain(r.port, e.Address), r.name+" to "+e.Address.String()))
		} else {
			rules = append(rules, narrow(match{}.proto(r.port.Protocol), i).then("-j DNAT --to-destination "+e.Address.String(), r.name))
		}
	}
	return rules
}
