package render

import (
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Facts are what the rules of one family depend on beside Services.
type Facts struct {
	Family model.Family
	// Cluster is the range of all Pods; Pods this node's part of it, invalid while it is
	// unknown; Services that of cluster addresses, invalid when the family has none.
	Cluster, Pods, Services netip.Prefix
	// NodeIPs are the node's addresses of this family.
	NodeIPs []netip.Addr
	// Node and Zone say where this node is.
	Node, Zone string
	Policy
}

// Policy is what the administrator chooses.
type Policy struct {
	// MasqueradeAll gives every connection to a cluster address the node's address, not
	// only those from outside of the Pod range.
	MasqueradeAll bool
	// NoLoopbackNodePorts leaves node ports on 127.0.0.0/8 alone. Those on ::1 are in any
	// case: the kernel does not route from it.
	NoLoopbackNodePorts bool
	// SomeNodePortAddresses restricts node ports to NodePortAddresses; otherwise they are
	// open on every address that the node has.
	SomeNodePortAddresses bool
	NodePortAddresses     []netip.Addr
	// NameServers are addresses of Services whose clients are led past endpoints that
	// have just refused.
	NameServers []netip.Addr
}

func (p Policy) equal(o Policy) bool {
	return p.MasqueradeAll == o.MasqueradeAll && p.NoLoopbackNodePorts == o.NoLoopbackNodePorts &&
		p.SomeNodePortAddresses == o.SomeNodePortAddresses && slices.Equal(p.NodePortAddresses, o.NodePortAddresses) &&
		slices.Equal(p.NameServers, o.NameServers)
}

// NewFacts takes the part of a family out of what is known of the node.
func NewFacts(family model.Family, n model.NodeFacts) Facts {
	f := Facts{Family: family, Cluster: n.ClusterCIDR, Pods: n.PodCIDR, Services: n.ServiceCIDR}
	if family == model.IPv6 {
		f.Cluster, f.Pods, f.Services = n.ClusterCIDR6, n.PodCIDR6, n.ServiceCIDR6
	}
	for _, ip := range n.NodeIPs {
		if family.Of(ip) {
			f.NodeIPs = append(f.NodeIPs, ip)
		}
	}
	return f
}

// Equal reports whether two facts lead to the same rules.
func (f Facts) Equal(o Facts) bool {
	return f.Family == o.Family && f.Cluster == o.Cluster && f.Pods == o.Pods && f.Services == o.Services &&
		f.Node == o.Node && f.Zone == o.Zone && slices.Equal(f.NodeIPs, o.NodeIPs) && f.Policy.equal(o.Policy)
}

// ownPod reports whether an endpoint may be a Pod of this node, whose connections to
// itself need another source.
func (f Facts) ownPod(e model.Endpoint) bool {
	return e.Local || (f.Pods.IsValid() && f.Pods.Contains(e.Address.Addr()))
}

func (f Facts) loopback() netip.Prefix {
	if f.Family == model.IPv6 {
		return netip.PrefixFrom(netip.IPv6Loopback(), 128)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8)
}

func (f Facts) multicast() netip.Prefix {
	if f.Family == model.IPv6 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4)
}

// reject is the action that tells the sender that nobody listens: with a reset for TCP,
// because the kernel sends only so many ICMP messages to one address, and because a
// client of IPv6 would try again for a second after one.
func (f Facts) reject(protocol model.Protocol) string {
	switch {
	case protocol == model.TCP:
		return "-j REJECT --reject-with tcp-reset"
	case f.Family == model.IPv6:
		return "-j REJECT --reject-with icmp6-port-unreachable"
	}
	return "-j REJECT --reject-with icmp-port-unreachable"
}
