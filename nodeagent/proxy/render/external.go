package render

import (
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
)

// external leads the ways into a Service from outside to its external chain: node port,
// external addresses and those of a load balancer, the last through the chain that
// checks who may use them.
func (r *portRules) external() {
	p := r.port
	r.Chains = append(r.Chains, r.externalChain())
	services := ChainID{iptables.NAT, Services}
	for _, ip := range p.ExternalIPs {
		r.share(services, match{}.to(host(ip)).dport(p.Protocol, p.Port).jump(ExternalChain(p), r.name+" external IP"))
	}
	target := ExternalChain(p)
	if len(p.SourceRanges) > 0 && len(p.LoadBalancerIPs) > 0 {
		target = FirewallChain(p)
		r.Chains = append(r.Chains, r.firewallChain())
	}
	for _, ip := range p.LoadBalancerIPs {
		r.share(services, match{}.to(host(ip)).dport(p.Protocol, p.Port).jump(target, r.name+" loadbalancer IP"))
	}
	if p.NodePort != 0 {
		r.share(ChainID{iptables.NAT, NodePorts}, match{}.dport(p.Protocol, p.NodePort).jump(ExternalChain(p), r.name+" node port"))
	}
	r.refusals()
}

// externalChain masquerades what may leave for another node: its answers must come back
// through this one. With the policy Local the client's address is kept, and what Pods
// and programs of this node send goes anywhere, as if it had come back from a balancer.
func (r *portRules) externalChain() iptables.Chain {
	p := r.port
	chain := iptables.Chain{Table: iptables.NAT, Name: ExternalChain(p)}
	if !r.choice.Any {
		return chain
	}
	if !p.ExternalLocal {
		chain.Rules = append(chain.Rules,
			match{}.jump(MarkMasq, r.name+" from outside"),
			match{}.jump(ServiceChain(p), r.name+" from outside"))
		return chain
	}
	chain.Rules = append(chain.Rules,
		match{}.from(r.facts.Cluster).jump(ServiceChain(p), r.name+" from Pods"),
		match{}.fromLocal().jump(MarkMasq, r.name+" from this node"),
		match{}.fromLocal().jump(ServiceChain(p), r.name+" from this node"))
	if len(r.choice.Local) > 0 {
		chain.Rules = append(chain.Rules, match{}.jump(LocalChain(p), r.name+" from outside"))
	}
	return chain
}

// firewallChain lets only the source ranges through. Where the balancer's address is one
// of the node's, the node's own packets to it have it as their source.
func (r *portRules) firewallChain() iptables.Chain {
	p := r.port
	chain := iptables.Chain{Table: iptables.NAT, Name: FirewallChain(p)}
	self := false
	for _, allowed := range p.SourceRanges {
		chain.Rules = append(chain.Rules, match{}.from(allowed).jump(ExternalChain(p), r.name+" from an allowed range"))
		self = self || slices.ContainsFunc(r.facts.NodeIPs, allowed.Contains)
	}
	if self {
		for _, ip := range p.LoadBalancerIPs {
			chain.Rules = append(chain.Rules, match{}.from(host(ip)).jump(ExternalChain(p), r.name+" from this node"))
		}
	}
	return chain
}

// refusals answer what was not translated: without endpoints it is rejected, with
// endpoints on other nodes only and the policy Local it is dropped so that the balancer
// tries another node, and so is who may not use a balancer's address.
func (r *portRules) refusals() {
	p := r.port
	action, why := "", ""
	switch {
	case !r.choice.Any:
		action, why = r.facts.reject(p.Protocol), " has no endpoints"
	case p.ExternalLocal && len(r.choice.Local) == 0:
		action, why = "-j DROP", " has no local endpoints"
		r.Unserved.External++
	}
	external := ChainID{iptables.Filter, External}
	refuse := func(m match) {
		if action != "" {
			r.share(external, m.then(action, r.name+why))
		}
	}
	for _, ip := range p.ExternalIPs {
		refuse(match{}.to(host(ip)).dport(p.Protocol, p.Port))
	}
	for _, ip := range p.LoadBalancerIPs {
		portal := match{}.to(host(ip)).dport(p.Protocol, p.Port)
		if r.choice.Any && len(p.SourceRanges) > 0 {
			r.share(external, portal.then("-j DROP", r.name+" is not for this client"))
			continue
		}
		refuse(portal)
	}
	if p.NodePort != 0 && action != "" {
		r.share(ChainID{iptables.Filter, NodePorts}, match{}.dport(p.Protocol, p.NodePort).then(action, r.name+" node port"+why))
	}
}
