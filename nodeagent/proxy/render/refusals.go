package render

import (
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// avoidSeconds is how long an endpoint that refused gets no new connections while another
// one does not refuse: longer than the 5 s after which resolvers repeat what nobody
// answered, so that this passes by as well, whether or not the rules have followed.
const avoidSeconds = 10

// names reports whether clients ask the port for names. Resolvers ask twice, and take two
// refusals for an answer: between the end of a server and the change of the rules both
// questions could meet it, the second one also because its port was in use before, and
// led to that server.
func (r *portRules) names() bool {
	return r.port.Protocol == model.UDP && slices.Contains(r.facts.NameServers, r.port.ClusterIP)
}

// avoidsRefusing reports whether new connections pass by endpoints that refuse.
func (r *portRules) avoidsRefusing(endpoints []model.Endpoint) bool {
	return len(endpoints) > 1 && r.names()
}

// willing narrows a match to the time in which an endpoint is not known to refuse.
func (r *portRules) willing(m match, e model.Endpoint) match {
	return m.notOn(RefusedList(r.port.Protocol, e.Address), avoidSeconds, r.facts.Family)
}

// noteRefusals takes note of endpoints that refuse, and keeps it from the client, who asks
// again when nothing came, while there is one that does not. Refusals of what is no
// endpoint any more are of connections that will be forgotten in a moment.
func (r *portRules) noteRefusals() {
	if !r.names() || len(r.choice.All) == 0 {
		return
	}
	to, name := netip.AddrPortFrom(r.port.ClusterIP, r.port.Port), RefusalChain(r.port)
	r.share(ChainID{iptables.Filter, Refused}, match{}.about(r.port.Protocol, to).jump(name, r.name+" refuses"))
	id := ChainID{iptables.Filter, name}
	for _, e := range r.choice.All {
		r.share(id, match{}.ledTo(e.Address).noteOn(RefusedList(r.port.Protocol, e.Address), r.facts.Family).then("", r.name+" at "+e.Address.String()))
	}
	for _, e := range r.choice.All {
		r.share(id, r.willing(nil, e).then("-j DROP", r.name+" does not at "+e.Address.String()))
	}
}

// RefusalProbe is a rule by which to find out whether the kernel can take note of
// refusals, and the same without that.
func RefusalProbe(f model.Family) (noting, plain iptables.Rule) {
	nowhere := netip.AddrPortFrom(everybodyOf(f), 53)
	m := match{}.about(model.UDP, nowhere)
	return m.noteOn(iptables.ChainPrefix+"PROBE", f).then("-j RETURN", "probe"), m.then("-j RETURN", "probe")
}

// everybodyOf is the address that a mask of no bits leaves of every other.
func everybodyOf(f model.Family) netip.Addr {
	if f == model.IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// everybody is a mask of no bits.
func everybody(f model.Family) string { return everybodyOf(f).String() }
