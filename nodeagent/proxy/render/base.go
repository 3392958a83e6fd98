package render

import (
	"net/netip"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

func loopback() netip.Prefix  { return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8) }
func multicast() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4) }

// Jumps are the rules in the kernel's own chains.
func Jumps() []iptables.Jump {
	to := func(table iptables.Table, kernelChain, chain, comment string) iptables.Jump {
		return iptables.Jump{Table: table, Chain: kernelChain, Rule: match{}.jump(chain, comment)}
	}
	return []iptables.Jump{
		to(iptables.NAT, "PREROUTING", Services, "keelson service portals"),
		to(iptables.NAT, "OUTPUT", Services, "keelson service portals"),
		to(iptables.NAT, "POSTROUTING", Postrouting, "keelson masquerade"),
		to(iptables.Filter, "INPUT", Firewall, "keelson loopback guard"),
		to(iptables.Filter, "INPUT", RejectNode, "keelson node ports without endpoints"),
		to(iptables.Filter, "FORWARD", Reject, "keelson service addresses without endpoints"),
		to(iptables.Filter, "FORWARD", Forward, "keelson forwarding"),
		to(iptables.Filter, "OUTPUT", RejectNode, "keelson node ports without endpoints"),
		to(iptables.Filter, "OUTPUT", Reject, "keelson service addresses without endpoints"),
	}
}

// Base renders the chains that depend on the node only.
func Base(facts model.NodeFacts) []iptables.Chain {
	return []iptables.Chain{
		{Table: iptables.NAT, Name: MarkMasq, Rules: []iptables.Rule{
			match{}.then("-j MARK --set-xmark "+MasqueradeMark, "masquerade on the way out"),
		}},
		postroutingChain(facts),
		firewallChain(),
		forwardChain(facts),
	}
}

// postroutingChain masquerades what was marked, and what Pods of this node send out of
// the cluster. The mark is taken off so that a packet that passes twice, as through a
// tunnel, is not translated twice.
func postroutingChain(facts model.NodeFacts) iptables.Chain {
	chain := iptables.Chain{Table: iptables.NAT, Name: Postrouting}
	if pods := facts.PodCIDR; pods.IsValid() {
		leaving := match{}.unmarked().from(pods)
		chain.Rules = append(chain.Rules,
			leaving.to(multicast()).then("-j RETURN", "multicast from Pods keeps its source"),
			leaving.notTo(facts.ClusterCIDR).then("-j MASQUERADE --random-fully", "Pods to outside of the cluster"))
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
func firewallChain() iptables.Chain {
	return iptables.Chain{Table: iptables.Filter, Name: Firewall, Rules: []iptables.Rule{
		match{"!", "-i", "lo"}.to(loopback()).untracked().then("-j DROP", "loopback addresses from elsewhere"),
	}}
}

// forwardChain lets Pod and Service traffic pass on machines whose FORWARD policy is
// DROP (Docker sets it). Packets that conntrack cannot place are dropped first: sent on
// untranslated, an endpoint's answer would reach its client from a wrong address.
func forwardChain(facts model.NodeFacts) iptables.Chain {
	pods := facts.ClusterCIDR
	return iptables.Chain{Table: iptables.Filter, Name: Forward, Rules: []iptables.Rule{
		match{}.from(pods).invalid().then("-j DROP", "answers that cannot be translated back"),
		match{}.marked().then("-j ACCEPT", "service traffic"),
		match{}.from(pods).then("-j ACCEPT", "from Pods"),
		match{}.to(pods).then("-j ACCEPT", "to Pods"),
		match{}.continuing().with("-m", "conntrack", "--ctstate", "DNAT").then("-j ACCEPT", "answers of service traffic"),
	}}
}

// rejectChain answers what was sent to the Service range and not translated: no such
// Service, no such port, no endpoints.
func rejectChain(facts model.NodeFacts, rejects []iptables.Rule) iptables.Chain {
	unused := match{}.to(facts.ServiceCIDR)
	return iptables.Chain{Table: iptables.Filter, Name: Reject, Rules: append([]iptables.Rule{
		unused.invalid().then("-j DROP", "not of a known connection"),
		unused.then(portUnreachable, "no endpoints for this service address"),
	}, rejects...)}
}
