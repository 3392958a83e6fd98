package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

// routeProtocol marks the routes that this package and the overlay made.
const routeProtocol = overlay.RouteProtocol

const defaultMTU = 1500

// hostSnapshot is what the host's network namespace looks like.
type hostSnapshot struct {
	links  []netlinkx.Link
	addrs  []netlinkx.Addr
	routes []netlinkx.Route
}

func (s hostSnapshot) link(index int) netlinkx.Link {
	i := slices.IndexFunc(s.links, func(l netlinkx.Link) bool { return l.Index == index })
	if i < 0 {
		return netlinkx.Link{Index: index}
	}
	return s.links[i]
}

// hostPlan is what makes the snapshot right.
type hostPlan struct {
	deleteAddrs  []netlinkx.Addr
	setAddrs     []netlinkx.Addr
	deleteRoutes []netlinkx.Route
	setRoutes    []netlinkx.Route
}

// planHost compares the host with what it must have once the bridge exists:
//   - the gateways' addresses on the bridge, and no other;
//   - the cluster's Pod ranges unreachable, so that an address without a Pod is
//     answered here and never sent to the default gateway. Each Pod's own route is
//     more specific;
//   - the Service range on the bridge, which has no neighbours: a program of the
//     node must find a route before its packet reaches the proxy's rules, and what
//     the rules do not know must not leave. An unreachable route would refuse it
//     before they see it.
//
// Routes to other nodes are the overlay's.
func planHost(cfg Config, own ranges.List, bridge int, s hostSnapshot) hostPlan {
	var wantAddrs []netlinkx.Addr
	var wantRoutes []netlinkx.Route
	for _, pods := range own {
		gw := gateway(pods)
		wantAddrs = append(wantAddrs, netlinkx.Addr{Link: bridge, Prefix: single(gw)})
		wantRoutes = append(wantRoutes,
			netlinkx.Route{Dst: cfg.ClusterCIDRs.Of(gw), Unreachable: true, Protocol: routeProtocol},
			netlinkx.Route{Dst: cfg.ServiceCIDRs.Of(gw), Link: bridge, Src: gw, Protocol: routeProtocol})
	}
	var p hostPlan
	for _, a := range s.addrs {
		if a.Link == bridge && !slices.Contains(wantAddrs, a) {
			p.deleteAddrs = append(p.deleteAddrs, a)
		}
	}
	for _, a := range wantAddrs {
		if !slices.Contains(s.addrs, a) {
			p.setAddrs = append(p.setAddrs, a)
		}
	}
	for _, r := range s.routes {
		if r.Protocol == routeProtocol && !overlay.IsRoute(r) && !isPodLink(s.link(r.Link).Name) && !slices.Contains(wantRoutes, r) {
			p.deleteRoutes = append(p.deleteRoutes, r)
		}
	}
	for _, r := range wantRoutes {
		if !slices.Contains(s.routes, r) {
			p.setRoutes = append(p.setRoutes, r)
		}
	}
	return p
}

// checkPodCIDRs refuses ranges of a node that cannot serve Pods of this cluster.
func checkPodCIDRs(cfg Config, own ranges.List) error {
	var errs []error
	for _, p := range own {
		errs = append(errs, checkPodCIDR(cfg, p))
	}
	v4, v6 := own.V4(), own.V6()
	switch {
	case len(own) == 0:
		errs = append(errs, errors.New("spec.podCIDR: required, for example 10.244.0.0/24"))
	case !v4.IsValid():
		errs = append(errs, fmt.Errorf("spec.podCIDRs %s: must have an IPv4 range: nodes with IPv6 alone are not supported", own))
	case v6.IsValid() && v6.Addr().BitLen()-v6.Bits() < v4.Addr().BitLen()-v4.Bits():
		errs = append(errs, fmt.Errorf("spec.podCIDRs %s: the IPv6 range is smaller than the IPv4 range: must be /%d or larger", own, v6.Addr().BitLen()-v4.Addr().BitLen()+v4.Bits()))
	}
	return errors.Join(errs...)
}

func checkPodCIDR(cfg Config, p netip.Prefix) error {
	if p != p.Masked() {
		return fmt.Errorf("spec.podCIDR %s: has bits beyond its mask, did you mean %s?", p, p.Masked())
	}
	cluster := cfg.ClusterCIDRs.Of(p.Addr())
	if !cluster.IsValid() {
		return fmt.Errorf("spec.podCIDR %s is of a family that clusterCIDR %s lacks: give manager and node the same cluster CIDR", p, cfg.ClusterCIDRs)
	}
	if p.Bits() < cluster.Bits() || !cluster.Contains(p.Addr()) {
		return fmt.Errorf("spec.podCIDR %s is not inside clusterCIDR %s: give manager and node the same cluster CIDR", p, cluster)
	}
	if most := p.Addr().BitLen() - 2; p.Bits() > most {
		return fmt.Errorf("spec.podCIDR %s has no room for a gateway and a Pod: must be /%d or larger", p, most)
	}
	return nil
}

// checkConflicts refuses ranges that the host uses for something else. A route that
// contains a whole range and leads to a gateway is no conflict: the range is carved
// out of it, as a private network's 10.0.0.0/8 usually allows.
func checkConflicts(cfg Config, s hostSnapshot) error {
	var errs []error
	check := func(field string, list ranges.List) {
		for _, p := range list {
			for _, what := range s.usesOf(p, cfg.BridgeName) {
				errs = append(errs, fmt.Errorf("%s %s overlaps %s: choose a range that this machine does not use", field, p, what))
			}
		}
	}
	check("clusterCIDR", cfg.ClusterCIDRs)
	check("serviceCIDR", cfg.ServiceCIDRs)
	return errors.Join(errs...)
}

// usesOf describes what of a range the host uses for something else.
func (s hostSnapshot) usesOf(p netip.Prefix, bridge string) []string {
	ours := func(index int) bool {
		name := s.link(index).Name
		return name == bridge || name == overlay.Interface || isPodLink(name)
	}
	var uses []string
	for _, a := range s.addrs {
		if !ours(a.Link) && p.Overlaps(a.Prefix) {
			uses = append(uses, fmt.Sprintf("the address %s of interface %s", a.Prefix, s.link(a.Link).Name))
		}
	}
	for _, r := range s.routes {
		if r.Protocol == routeProtocol || ours(r.Link) || r.Dst.Bits() == 0 || !p.Overlaps(r.Dst) {
			continue
		}
		if carvedOut := r.Dst.Bits() < p.Bits() && (r.Via.IsValid() || r.Unreachable); !carvedOut {
			uses = append(uses, fmt.Sprintf("the route to %s on interface %q", r.Dst, s.link(r.Link).Name))
		}
	}
	return uses
}

// chooseMTU returns the configured MTU if it fits, or what fits: what the interface
// that leads to other nodes takes, less what the overlay adds.
func chooseMTU(cfg Config, s hostSnapshot) (int, error) {
	out := s.wayOut(cfg.NodeIPs)
	fits := max(out.MTU, minMTU) - cfg.Overlay.Overhead()
	switch least := cfg.leastMTU(); {
	case cfg.MTU != 0 && out.Name != "" && cfg.MTU > fits:
		return 0, fmt.Errorf("mtu %d does not fit: interface %s takes %d bytes, and the overlay (%s) adds %d: must be at most %d", cfg.MTU, out.Name, out.MTU, cfg.Overlay, cfg.Overlay.Overhead(), fits)
	case cfg.MTU != 0:
		return cfg.MTU, nil
	case fits < least:
		return 0, fmt.Errorf("interface %s takes %d bytes, which leaves less than %d for Pods: give it a larger MTU", out.Name, out.MTU, least)
	}
	return fits, nil
}

// wayOut is the interface with the node's address, or else that of the default route;
// one without a name takes Ethernet's packets.
func (s hostSnapshot) wayOut(ips []netip.Addr) netlinkx.Link {
	for _, a := range s.addrs {
		if l := s.link(a.Link); slices.Contains(ips, a.Prefix.Addr()) && a.Prefix.Addr().Is4() && l.MTU >= minMTU {
			l.MTU = min(l.MTU, maxMTU)
			return l
		}
	}
	for _, r := range s.routes {
		if l := s.link(r.Link); r.Dst.Bits() == 0 && r.Dst.Addr().Is4() && r.Link != 0 && l.MTU >= minMTU {
			return l
		}
	}
	return netlinkx.Link{MTU: defaultMTU}
}

// podAddrs are the addresses that lead to a Pod's interface.
type podAddrs struct{ v4, v6 netip.Addr }

// podAddresses reads from the host's routes which addresses each Pod interface serves.
func podAddresses(s hostSnapshot) map[string]podAddrs {
	byLink := map[string]podAddrs{}
	for _, r := range s.routes {
		name := s.link(r.Link).Name
		if r.Protocol != routeProtocol || !r.Dst.IsSingleIP() || !isPodLink(name) {
			continue
		}
		had := byLink[name]
		if r.Dst.Addr().Is4() {
			had.v4 = r.Dst.Addr()
		} else {
			had.v6 = r.Dst.Addr()
		}
		byLink[name] = had
	}
	return byLink
}

// single is the range of one address.
func single(ip netip.Addr) netip.Prefix { return netip.PrefixFrom(ip, ip.BitLen()) }
