package render

import (
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// HostPortChains renders the shared host port chain and one chain per host port.
// Connections keep their source, except those of the Pod to itself and those from
// loopback, which no answer could find.
func HostPortChains(ports []model.HostPort) []iptables.Chain {
	shared := iptables.Chain{Table: iptables.NAT, Name: HostPorts}
	var chains []iptables.Chain
	for _, h := range slices.Compact(slices.SortedFunc(slices.Values(ports), model.HostPort.Compare)) {
		chain := iptables.Chain{Table: iptables.NAT, Name: HostPortChain(h), Rules: []iptables.Rule{
			match{}.from(host(h.Target.Addr())).jump(MarkMasq, h.Pod+" hairpin"),
			match{}.from(loopback()).jump(MarkMasq, h.Pod+" from loopback"),
			match{}.proto(h.Protocol).then("-j DNAT --to-destination "+h.Target.String(), h.Pod),
		}}
		entry := match{}
		if h.HostIP.IsValid() && !h.HostIP.IsUnspecified() {
			entry = entry.to(host(h.HostIP))
		}
		chains = append(chains, chain)
		shared.Rules = append(shared.Rules, entry.dport(h.Protocol, h.HostPort).jump(chain.Name, h.Pod+" host port"))
	}
	return append(chains, shared)
}

// usable reports whether an address can be a target of the rules.
func usable(a netip.AddrPort) bool { return a.IsValid() && a.Addr().Is4() && a.Port() != 0 }

// UsableHostPorts returns those that can be rendered.
func UsableHostPorts(ports []model.HostPort) []model.HostPort {
	return slices.DeleteFunc(slices.Clone(ports), func(h model.HostPort) bool {
		return !usable(h.Target) || h.HostPort == 0 || h.Protocol == "" || (h.HostIP.IsValid() && !h.HostIP.Is4())
	})
}
