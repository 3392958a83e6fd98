package render

import (
	"net/netip"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// ChainID names a chain of a table.
type ChainID struct {
	Table iptables.Table
	Name  string
}

// alwaysThere lists the shared chains that exist without any Service.
func alwaysThere() []ChainID {
	return []ChainID{
		{iptables.NAT, Services}, {iptables.NAT, ClusterIPs}, {iptables.NAT, NodePorts},
		{iptables.Filter, NodePorts}, {iptables.Filter, External}, {iptables.Filter, Reject}, {iptables.Filter, HealthPorts},
		{iptables.Filter, Refused},
	}
}

// sharedChain puts the rules that Services contribute to a chain between those that are
// there without them.
func sharedChain(facts Facts, id ChainID, contributed []iptables.Rule) iptables.Chain {
	var first, last []iptables.Rule
	switch id {
	case ChainID{iptables.NAT, Services}:
		if facts.Services.IsValid() {
			first = append(first, match{}.to(facts.Services).jump(ClusterIPs, "cluster IPs"))
		}
		last = append(last, match{}.toLocal().jump(HostPorts, "host ports of Pods"))
		last = append(last, nodePortJumps(facts, "node ports; this must be the last rule")...)
	case ChainID{iptables.NAT, ClusterIPs}:
		first = append(first, masqueradeOutsiders(match{}, facts, "from outside of the Pod range"))
	case ChainID{iptables.Filter, External}:
		last = nodePortJumps(facts, "node ports without endpoints")
	case ChainID{iptables.Filter, Reject}:
		last = rejectUnused(facts)
	}
	chain := iptables.Chain{Table: id.Table, Name: id.Name, Rules: make([]iptables.Rule, 0, len(first)+len(contributed)+len(last))}
	chain.Rules = append(append(append(chain.Rules, first...), contributed...), last...)
	return chain
}

// masqueradeOutsiders marks what has to come back through this node: everything that
// Pods do not send.
func masqueradeOutsiders(m match, facts Facts, comment string) iptables.Rule {
	if facts.MasqueradeAll {
		return m.jump(MarkMasq, comment)
	}
	return m.notFrom(facts.Cluster).jump(MarkMasq, comment)
}

// nodePortJumps leads to NodePorts what is sent to the addresses that node ports are
// open on.
func nodePortJumps(facts Facts, comment string) []iptables.Rule {
	if facts.SomeNodePortAddresses {
		var rules []iptables.Rule
		for _, ip := range facts.NodePortAddresses {
			if facts.Family.Of(ip) && (!ip.IsLoopback() || !facts.noLoopback()) {
				rules = append(rules, match{}.to(host(ip)).jump(NodePorts, comment))
			}
		}
		return rules
	}
	local := match{}.toLocal()
	if facts.noLoopback() {
		local = local.notTo(facts.loopback())
	}
	return []iptables.Rule{local.jump(NodePorts, comment)}
}

func (f Facts) noLoopback() bool { return f.NoLoopbackNodePorts || f.Family == model.IPv6 }

// rejectUnused answers what was sent to the Service range and not translated: no such
// Service, no such port, no endpoints.
func rejectUnused(facts Facts) []iptables.Rule {
	if !facts.Services.IsValid() {
		return nil
	}
	unused := match{}.to(facts.Services)
	return []iptables.Rule{
		unused.invalid().then("-j DROP", "not of a known connection"),
		unused.proto(model.TCP).then(facts.reject(model.TCP), "no endpoints for this service address"),
		unused.then(facts.reject(model.UDP), "no endpoints for this service address"),
	}
}

// groupJump leads to the chain of a part of the Service range.
func groupJump(group netip.Prefix) iptables.Rule {
	return match{}.to(group).jump(GroupChain(group), "cluster IPs in "+group.String())
}
