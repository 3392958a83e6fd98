package render

import (
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Jumps are the rules in the kernel's own chains. What refuses connections sees only
// their first packets, and those that belong to none.
func Jumps(family model.Family) []iptables.Jump {
	to := func(table iptables.Table, kernelChain, chain, comment string) iptables.Jump {
		return iptables.Jump{Table: table, Chain: kernelChain, Rule: match{}.jump(chain, comment)}
	}
	first := func(states match, kernelChain, chain, comment string) iptables.Jump {
		return iptables.Jump{Table: iptables.Filter, Chain: kernelChain, Rule: states.jump(chain, comment)}
	}
	opening, unplaced, refusal := match{}.opening(), match{}.openingOrInvalid(), match{}.unreachable(family)
	jumps := []iptables.Jump{
		to(iptables.NAT, "PREROUTING", Services, "keelson service portals"),
		to(iptables.NAT, "OUTPUT", Services, "keelson service portals"),
		to(iptables.NAT, "POSTROUTING", Postrouting, "keelson masquerade"),
	}
	if family == model.IPv4 {
		jumps = append(jumps, to(iptables.Filter, "INPUT", Firewall, "keelson loopback guard"))
	}
	for _, chain := range []string{"INPUT", "FORWARD", "OUTPUT"} {
		jumps = append(jumps, first(refusal, chain, Refused, "keelson refusals of name servers"))
	}
	return append(jumps,
		first(opening, "INPUT", External, "keelson services from outside"),
		to(iptables.Filter, "INPUT", HealthPorts, "keelson service health checks"),
		first(unplaced, "FORWARD", Reject, "keelson service addresses without endpoints"),
		first(opening, "FORWARD", External, "keelson services from outside"),
		to(iptables.Filter, "FORWARD", Forward, "keelson forwarding"),
		first(opening, "OUTPUT", External, "keelson services from outside"),
		first(unplaced, "OUTPUT", Reject, "keelson service addresses without endpoints"),
	)
}

// Base renders the chains that depend on the node only.
func Base(facts Facts) []iptables.Chain {
	chains := []iptables.Chain{
		{Table: iptables.NAT, Name: MarkMasq, Rules: []iptables.Rule{
			match{}.then("-j MARK --set-xmark "+MasqueradeMark, "masquerade on the way out"),
		}},
		postroutingChain(facts),
		forwardChain(facts),
	}
	if facts.Family == model.IPv4 {
		chains = append(chains, firewallChain(facts))
	}
	return chains
}

// postroutingChain masquerades what was marked, and what Pods of this node send out of
// the cluster. The mark is taken off so that a packet that passes twice, as through a
// tunnel, is not translated twice.
func postroutingChain(facts Facts) iptables.Chain {
	chain := iptables.Chain{Table: iptables.NAT, Name: Postrouting}
	if pods := facts.Pods; pods.IsValid() {
		leaving := match{}.unmarked().from(pods)
		chain.Rules = append(chain.Rules,
			leaving.to(facts.multicast()).then("-j RETURN", "multicast from Pods keeps its source"),
			leaving.notTo(facts.Cluster).then("-j MASQUERADE --random-fully", "Pods to outside of the cluster"))
	}
	chain.Rules = append(chain.Rules,
		match{}.unmarked().then("-j RETURN", "not for us"),
		match{}.then("-j MARK --set-xmark 0x1000/0x0", "take the mark off"),
		match{}.then("-j MASQUERADE --random-fully", "service traffic that needs the node's address"))
	return chain
}

// firewallChain keeps loopback addresses private although route_localnet is on for the
// interfaces to Pods: nothing that comes in from a wire may reach 127.0.0.0/8, except
// answers of translated connections.
func firewallChain(facts Facts) iptables.Chain {
	return iptables.Chain{Table: iptables.Filter, Name: Firewall, Rules: []iptables.Rule{
		match{"!", "-i", "lo"}.to(facts.loopback()).untracked().then("-j DROP", "loopback addresses from elsewhere"),
	}}
}

// forwardChain lets Pod and Service traffic pass on machines whose FORWARD policy is
// DROP (Docker sets it). Packets that conntrack cannot place are dropped first: sent on
// untranslated, an endpoint's answer would reach its client from a wrong address.
func forwardChain(facts Facts) iptables.Chain {
	pods := facts.Cluster
	return iptables.Chain{Table: iptables.Filter, Name: Forward, Rules: []iptables.Rule{
		match{}.from(pods).invalid().then("-j DROP", "answers that cannot be translated back"),
		match{}.marked().then("-j ACCEPT", "service traffic"),
		match{}.from(pods).then("-j ACCEPT", "from Pods"),
		match{}.to(pods).then("-j ACCEPT", "to Pods"),
		match{}.continuing().with("-m", "conntrack", "--ctstate", "DNAT").then("-j ACCEPT", "answers of service traffic"),
	}}
}
