// Package render turns the proxy's model into iptables chains. It is pure: no IO, no
// clock, no state; equal input gives byte-equal chains, so that an unchanged Service
// is never written again.
package render

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"strconv"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Chains that exist on every node. NodePorts exists in both tables.
const (
	Services    = iptables.ChainPrefix + "SERVICES"
	ClusterIPs  = iptables.ChainPrefix + "CLUSTER-IPS"
	NodePorts   = iptables.ChainPrefix + "NODEPORTS"
	HostPorts   = iptables.ChainPrefix + "HOSTPORTS"
	Postrouting = iptables.ChainPrefix + "POSTROUTING"
	MarkMasq    = iptables.ChainPrefix + "MARK-MASQ"
	Forward     = iptables.ChainPrefix + "FORWARD"
	Firewall    = iptables.ChainPrefix + "FIREWALL"
	Reject      = iptables.ChainPrefix + "REJECT"
	External    = iptables.ChainPrefix + "EXTERNAL"
	HealthPorts = iptables.ChainPrefix + "HEALTH-PORTS"
	Refused     = iptables.ChainPrefix + "REFUSED"
)

// MasqueradeMark is the bit of the packet mark that says "masquerade on the way out".
// It is none of those that others are known to use: 0x2000 (CNI portmap), 0x4000
// (kube-proxy), 0x8000 (kubelet), 0x0f00 (Cilium), 0xffff0000 (Calico), 0x40000 and
// 0x80000 (Tailscale).
const MasqueradeMark = "0x1000/0x1000"

// hashName returns the 16 characters that make a chain name unique and stable.
func hashName(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}

func portChain(kind string, p *model.ServicePort) string {
	return iptables.ChainPrefix + kind + hashName(p.Name.String(), string(p.Protocol))
}

// ServiceChain names the chain that spreads the connections of one Service port over
// the endpoints of all nodes.
func ServiceChain(p *model.ServicePort) string { return portChain("SVC-", p) }

// LocalChain names the chain that spreads them over the endpoints of this node.
func LocalChain(p *model.ServicePort) string { return portChain("SVL-", p) }

// ExternalChain names the chain for connections that reach a Service port other than by
// its cluster address.
func ExternalChain(p *model.ServicePort) string { return portChain("EXT-", p) }

// FirewallChain names the chain that lets only some clients use the addresses of a load
// balancer.
func FirewallChain(p *model.ServicePort) string { return portChain("FW-", p) }

// EndpointChain names the chain that sends a connection to one endpoint; it is also the
// name of the list of clients that stay with that endpoint.
func EndpointChain(p *model.ServicePort, endpoint netip.AddrPort) string {
	return iptables.ChainPrefix + "SEP-" + hashName(p.Name.String(), string(p.Protocol), endpoint.String())
}

// RefusalChain names the chain that decides whether a client hears that an endpoint of a
// port refuses.
func RefusalChain(p *model.ServicePort) string { return portChain("REF-", p) }

// RefusedList names the list that says when an endpoint refused, of whatever Service.
func RefusedList(p model.Protocol, endpoint netip.AddrPort) string {
	return iptables.ChainPrefix + "REFUSED-" + hashName(string(p), endpoint.String())
}

// HostPortChain names the chain of one host port.
func HostPortChain(h model.HostPort) string {
	return iptables.ChainPrefix + "HP-" + hashName(string(h.Protocol), strconv.Itoa(int(h.HostPort)), h.HostIP.String(), h.Target.String())
}

// groupBits is by how many bits cluster addresses are divided into groups.
const groupBits = 8

// groupOf returns the part of the Service range that an address is in. One chain per
// part keeps the way of a packet short, and the chain that a new Service changes small.
func groupOf(services netip.Prefix, ip netip.Addr) netip.Prefix {
	group, err := ip.Prefix(min(services.Bits()+groupBits, ip.BitLen()))
	if err != nil {
		return netip.PrefixFrom(ip, ip.BitLen())
	}
	return group
}

// GroupChain names the chain of the cluster addresses of one part of the Service range.
func GroupChain(group netip.Prefix) string {
	return iptables.ChainPrefix + "IPS-" + hashName(group.String())
}
