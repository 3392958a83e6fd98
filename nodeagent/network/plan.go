package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// routeProtocol marks the routes that this package made (rtnetlink(7), rtm_protocol);
// the number is in nobody's list.
const routeProtocol = 75

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
//   - the gateway's address on the bridge, and no other;
//   - the cluster's Pod range unreachable, so that an address without a Pod is
//     answered here and never sent to the default gateway. Each Pod's own route is
//     more specific;
//   - the Service range on the bridge, which has no neighbours: a program of the
//     node must find a route before its packet reaches the proxy's rules, and what
//     the rules do not know must not leave. An unreachable route would refuse it
//     before they see it.
func planHost(cfg Config, gateway netip.Addr, bridge int, s hostSnapshot) hostPlan {
	wantAddr := netlinkx.Addr{Link: bridge, Prefix: netip.PrefixFrom(gateway, 32)}
	wantRoutes := []netlinkx.Route{
		{Dst: cfg.ClusterCIDR, Unreachable: true, Protocol: routeProtocol},
		{Dst: cfg.ServiceCIDR, Link: bridge, Src: gateway, Protocol: routeProtocol},
	}
	var p hostPlan
	for _, a := range s.addrs {
		if a.Link == bridge && a != wantAddr {
			p.deleteAddrs = append(p.deleteAddrs, a)
		}
	}
	if !slices.Contains(s.addrs, wantAddr) {
		p.setAddrs = append(p.setAddrs, wantAddr)
	}
	for _, r := range s.routes {
		if r.Protocol == routeProtocol && !isPodLink(s.link(r.Link).Name) && !slices.Contains(wantRoutes, r) {
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

// checkPodCIDR refuses a node range that cannot serve Pods of this cluster.
func checkPodCIDR(cfg Config, podCIDR netip.Prefix) error {
	if err := validateRange("spec.podCIDR", podCIDR); err != nil {
		return err
	}
	if podCIDR.Bits() < cfg.ClusterCIDR.Bits() || !cfg.ClusterCIDR.Contains(podCIDR.Addr()) {
		return fmt.Errorf("spec.podCIDR %s is not inside clusterCIDR %s: give manager and node the same cluster CIDR", podCIDR, cfg.ClusterCIDR)
	}
	if podCIDR.Bits() > 30 {
		return fmt.Errorf("spec.podCIDR %s has no room for a gateway and a Pod: must be /30 or larger", podCIDR)
	}
	return nil
}

// checkConflicts refuses ranges that the host uses for something else. A route that
// contains a whole range and leads to a gateway is no conflict: the range is carved
// out of it, as a private network's 10.0.0.0/8 usually allows.
func checkConflicts(cfg Config, s hostSnapshot) error {
	var errs []error
	ranges := []struct {
		field string
		cidr  netip.Prefix
	}{{"clusterCIDR", cfg.ClusterCIDR}, {"serviceCIDR", cfg.ServiceCIDR}}
	ours := func(index int) bool {
		name := s.link(index).Name
		return name == cfg.BridgeName || isPodLink(name)
	}
	for _, rng := range ranges {
		var at []string
		for _, a := range s.addrs {
			if !ours(a.Link) && rng.cidr.Overlaps(a.Prefix) {
				at = append(at, fmt.Sprintf("the address %s of interface %s", a.Prefix, s.link(a.Link).Name))
			}
		}
		for _, r := range s.routes {
			if r.Protocol == routeProtocol || ours(r.Link) || r.Dst.Bits() == 0 || !rng.cidr.Overlaps(r.Dst) {
				continue
			}
			if r.Dst.Bits() < rng.cidr.Bits() && (r.Via.IsValid() || r.Unreachable) {
				continue
			}
			at = append(at, fmt.Sprintf("the route to %s on interface %q", r.Dst, s.link(r.Link).Name))
		}
		for _, what := range at {
			errs = append(errs, fmt.Errorf("%s %s overlaps %s: choose a range that this machine does not use", rng.field, rng.cidr, what))
		}
	}
	return errors.Join(errs...)
}

// chooseMTU returns the configured MTU, or that of the way out.
func chooseMTU(cfg Config, s hostSnapshot) int {
	if cfg.MTU != 0 {
		return cfg.MTU
	}
	for _, r := range s.routes {
		if mtu := s.link(r.Link).MTU; r.Dst.Bits() == 0 && r.Link != 0 && mtu >= minMTU {
			return mtu
		}
	}
	return defaultMTU
}

// podAddresses reads from the host's routes which address each Pod interface serves.
func podAddresses(s hostSnapshot) map[string]netip.Addr {
	byLink := map[string]netip.Addr{}
	for _, r := range s.routes {
		name := s.link(r.Link).Name
		if r.Protocol == routeProtocol && r.Dst.IsSingleIP() && isPodLink(name) {
			byLink[name] = r.Dst.Addr()
		}
	}
	return byLink
}
