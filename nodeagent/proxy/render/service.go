package render

import (
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// ServiceRules is what one Service contributes: chains of its own, and rules for the
// chains that all Services share.
type ServiceRules struct {
	Chains []iptables.Chain
	// Portals go to Services: one per port, present even without endpoints, so that
	// endpoints coming and going leave the shared chain as it is.
	Portals []iptables.Rule
	// NodePorts go to NodePorts.
	NodePorts []iptables.Rule
	// Rejects go to Reject: cluster addresses outside of the Service range without
	// endpoints. Inside the range one constant rule rejects all that was not translated.
	Rejects []iptables.Rule
	// NodeRejects go to RejectNode: node ports without endpoints.
	NodeRejects []iptables.Rule
}

// Service renders one Service.
func Service(svc model.Service, facts model.NodeFacts) ServiceRules {
	var out ServiceRules
	for _, port := range svc.Ports {
		out.addPort(port, facts)
	}
	return out
}

func (s *ServiceRules) addPort(p model.ServicePort, facts model.NodeFacts) {
	name := p.Name.String()
	portal := match{}.to(host(p.ClusterIP)).dport(p.Protocol, p.Port)
	s.Portals = append(s.Portals, portal.jump(ServiceChain(p), name+" cluster IP"))
	s.Chains = append(s.Chains, serviceChain(p, portal, facts))
	for _, endpoint := range p.Endpoints {
		chain := iptables.Chain{Table: iptables.NAT, Name: EndpointChain(p, endpoint)}
		send := match{}.proto(p.Protocol)
		if p.AffinitySeconds > 0 {
			send = send.remember(chain.Name)
		}
		chain.Rules = []iptables.Rule{
			match{}.from(host(endpoint.Addr())).jump(MarkMasq, name+" hairpin"),
			send.then("-j DNAT --to-destination "+endpoint.String(), name),
		}
		s.Chains = append(s.Chains, chain)
	}
	if len(p.Endpoints) == 0 && !facts.ServiceCIDR.Contains(p.ClusterIP) {
		s.Rejects = append(s.Rejects, portal.then(portUnreachable, name+" has no endpoints"))
	}
	if p.NodePort != 0 {
		s.addNodePort(p)
	}
}

const portUnreachable = "-j REJECT --reject-with icmp-port-unreachable"

// serviceChain chooses an endpoint: the one that the client used before when it has
// affinity, otherwise each with the same probability.
func serviceChain(p model.ServicePort, portal match, facts model.NodeFacts) iptables.Chain {
	chain := iptables.Chain{Table: iptables.NAT, Name: ServiceChain(p)}
	if len(p.Endpoints) == 0 {
		return chain
	}
	name := p.Name.String()
	chain.Rules = append(chain.Rules,
		portal.notFrom(facts.ClusterCIDR).jump(MarkMasq, name+" from outside of the Pod range"))
	if p.AffinitySeconds > 0 {
		for _, endpoint := range p.Endpoints {
			sep := EndpointChain(p, endpoint)
			chain.Rules = append(chain.Rules, match{}.remembered(sep, p.AffinitySeconds).jump(sep, name+" to "+endpoint.String()))
		}
	}
	for i, endpoint := range p.Endpoints {
		choice := match{}
		if left := len(p.Endpoints) - i; left > 1 {
			choice = choice.oneOf(left)
		}
		chain.Rules = append(chain.Rules, choice.jump(EndpointChain(p, endpoint), name+" to "+endpoint.String()))
	}
	return chain
}

// addNodePort publishes the port on the node's addresses. Its traffic is always
// masqueraded: the answer of an endpoint elsewhere must come back through this node.
func (s *ServiceRules) addNodePort(p model.ServicePort) {
	name := p.Name.String()
	entry := match{}.dport(p.Protocol, p.NodePort)
	chain := iptables.Chain{Table: iptables.NAT, Name: ExternalChain(p), Rules: []iptables.Rule{
		match{}.jump(MarkMasq, name+" node port"),
		match{}.jump(ServiceChain(p), name+" node port"),
	}}
	s.Chains = append(s.Chains, chain)
	s.NodePorts = append(s.NodePorts, entry.jump(chain.Name, name+" node port"))
	if len(p.Endpoints) == 0 {
		s.NodeRejects = append(s.NodeRejects, entry.toLocal().opening().then(portUnreachable, name+" node port has no endpoints"))
	}
}
