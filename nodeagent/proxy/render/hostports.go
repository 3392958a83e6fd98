package render

import (
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// HostPortChains renders the shared host port chain and one chain per host port of a
// family. Connections keep their source, except those of the Pod to itself and those
// from loopback, which no answer could find.
func HostPortChains(ports []model.HostPort, facts Facts) []iptables.Chain {
	shared := iptables.Chain{Table: iptables.NAT, Name: HostPorts}
	var chains []iptables.Chain
	for _, h := range slices.Compact(slices.SortedFunc(slices.Values(ports), model.HostPort.Compare)) {
		if !h.Of(facts.Family) {
			continue
		}
		chain := iptables.Chain{Table: iptables.NAT, Name: HostPortChain(h), Rules: []iptables.Rule{
			match{}.from(host(h.Target.Addr())).jump(MarkMasq, h.Pod+" hairpin"),
			match{}.from(facts.loopback()).jump(MarkMasq, h.Pod+" from loopback"),
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
