package local

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// defaultNodeNetwork6 is where nodes get their IPv6 addresses if Pods have some and no
// other range is named.
var defaultNodeNetwork6 = netip.MustParsePrefix("fd00:198:19::/64")

// parseNodeIP reads --node-ip: an IPv4 address, and with it one of IPv6 if there is one.
func parseNodeIP(text string) (ip, ip6 netip.Addr, err error) {
	for part := range strings.SplitSeq(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(part))
		switch {
		case err != nil || a.Is4In6() || a.Zone() != "":
			return ip, ip6, fmt.Errorf("--node-ip: %q is not an address of this machine, such as 192.0.2.10", part)
		case a.Is4() && !ip.IsValid():
			ip = a
		case a.Is6() && !ip6.IsValid():
			ip6 = a
		default:
			return ip, ip6, fmt.Errorf("--node-ip: %q has two addresses of one family", text)
		}
	}
	if !ip.IsValid() {
		return ip, ip6, fmt.Errorf("--node-ip: %q has no IPv4 address, which every node needs: give one, or one of IPv4 and one of IPv6, such as 192.0.2.10,2001:db8::10", text)
	}
	return ip, ip6, nil
}

// parseNodeNetwork reads --node-network: a range of IPv4, and with it one of IPv6 if
// there is one.
func parseNodeNetwork(text string) (network, network6 netip.Prefix, err error) {
	list, err := ranges.Parse("--node-network", text)
	if err != nil {
		return network, network6, err
	}
	network, network6 = list.V4(), list.V6()
	for _, p := range list {
		if !p.Addr().IsGlobalUnicast() {
			return network, network6, fmt.Errorf("--node-network: %s is not for addresses of machines", p)
		}
	}
	if network.Bits() < 16 || nodes.Capacity(network) < 2 {
		return network, network6, fmt.Errorf("--node-network: %s: choose a range between /16 and /29", network)
	}
	if network6.IsValid() && 128-network6.Bits() < 32-network.Bits() {
		return network, network6, fmt.Errorf("--node-network: %s has fewer addresses than %s: choose a larger range, such as %s", network6, network, defaultNodeNetwork6)
	}
	return network, network6, nil
}

// secondNetwork is the nodes' IPv6 network of a new cluster, invalid if its nodes need
// none.
func secondNetwork(o Options, named netip.Prefix) netip.Prefix {
	if named.IsValid() {
		return named
	}
	if pods, err := ranges.Parse("--cluster-cidr", o.ClusterCIDR); err == nil && pods.V6().IsValid() {
		return defaultNodeNetwork6
	}
	return netip.Prefix{}
}

// checkNodeNetwork refuses networks of nodes that others use. An invalid one is none.
func checkNodeNetwork(services, pods string, networks ...netip.Prefix) error {
	var errs []error
	for _, other := range []struct{ what, list string }{
		{"--service-cidr", services}, {"--cluster-cidr", pods}, {"the API server's own range", builtinServiceCIDR},
	} {
		list, err := ranges.Parse(other.what, other.list)
		if err != nil {
			continue // said elsewhere
		}
		for _, p := range list {
			for _, network := range networks {
				if network.IsValid() && p.Overlaps(network) {
					errs = append(errs, fmt.Errorf("--node-network: %s overlaps %s (%s): choose separate ranges", network, p, other.what))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// nodeNetworks are the networks of several nodes as --node-network names them.
func (s Settings) nodeNetworks() string {
	if s.NodeNetwork6.IsValid() {
		return ranges.List{s.NodeNetwork, s.NodeNetwork6}.String()
	}
	return s.NodeNetwork.String()
}

// second is the IPv6 address of one of several nodes, invalid if it has none.
func (s Settings) second(address netip.Addr) netip.Addr {
	if !s.NodeNetwork6.IsValid() || !address.IsValid() {
		return netip.Addr{}
	}
	return nodes.Second(s.NodeNetwork, s.NodeNetwork6, address)
}

// inPool says which of a node's addresses is one of the pool, if one is.
func (s Settings) inPool(pool addrpool.Pool, address netip.Addr) (netip.Addr, bool) {
	for _, a := range []netip.Addr{address, s.second(address)} {
		if a.IsValid() && pool.Contains(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// nodeIPs are the addresses of a node as its agent's flag names them.
func (at site) nodeIPs() string { return joinAddresses(at.address, at.address6) }

func joinAddresses(address, address6 netip.Addr) string {
	if address6.IsValid() {
		return address.String() + "," + address6.String()
	}
	return address.String()
}
