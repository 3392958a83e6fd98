package nodes

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks the routes of this machine that are ours; agents mark theirs,
// inside of nodes, the same way.
const routeProtocol = 75

// Routes are the ways of this machine's own programs to what the cluster has.
type Routes struct {
	// Pods and Services are the ranges of the cluster.
	Pods, Services []netip.Prefix
	// Nodes leads from the range of a node's Pods to the node's address of that family.
	Nodes map[netip.Prefix]netip.Addr
}

// planRoutes returns the routes by destination. What no node has is refused here, and
// never goes out by the default route; addresses of Services must have a way before
// the proxy translates them, and the source that nodes answer to.
func (o Options) planRoutes(r Routes, bridge int) map[netip.Prefix]netlink.Route {
	plan := map[netip.Prefix]netlink.Route{}
	for _, pods := range r.Pods {
		if o.of(pods).IsValid() {
			plan[pods] = netlink.Route{Dst: ipNet(pods), Type: unix.RTN_UNREACHABLE, Protocol: routeProtocol}
		}
	}
	for _, services := range r.Services {
		if network := o.of(services); network.IsValid() {
			plan[services] = netlink.Route{
				Dst: ipNet(services), LinkIndex: bridge, Src: Gateway(network).AsSlice(), Scope: netlink.SCOPE_LINK, Type: unix.RTN_UNICAST, Protocol: routeProtocol,
			}
		}
	}
	for pods, node := range r.Nodes {
		if network := o.of(pods); network.IsValid() && network.Contains(node) {
			plan[pods] = netlink.Route{
				Dst: ipNet(pods), LinkIndex: bridge, Gw: node.AsSlice(), Src: Gateway(network).AsSlice(), Type: unix.RTN_UNICAST, Protocol: routeProtocol,
			}
		}
	}
	return plan
}

// of is the nodes' network of a range's family, invalid if they have none.
func (o Options) of(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() {
		return o.Network6
	}
	return o.Network
}

// ApplyRoutes makes this machine's routes those, and writes only the difference.
func (m *Machine) ApplyRoutes(r Routes) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	bridge, err := netlink.LinkByName(Bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", Bridge, err)
	}
	plan := m.options.planRoutes(r, bridge.Attrs().Index)
	have, err := ownRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for _, route := range have {
		dst, _ := netip.ParsePrefix(route.Dst.String())
		if want, ok := plan[dst]; ok && sameRoute(want, route) {
			delete(plan, dst)
		} else if !ok {
			errs = append(errs, deleteRoute(route))
		}
	}
	for dst, route := range plan {
		if err := netlink.RouteReplace(&route); err != nil {
			errs = append(errs, fmt.Errorf("set the route to %s: %w", dst, err))
		}
	}
	return errors.Join(errs...)
}

func sameRoute(a, b netlink.Route) bool {
	return a.Type == b.Type && a.Gw.Equal(b.Gw) && a.Src.Equal(b.Src) && (a.Type == unix.RTN_UNREACHABLE || a.LinkIndex == b.LinkIndex)
}

func ownRoutes() ([]netlink.Route, error) {
	var all []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, routes...)
	}
	return all, nil
}

func removeOwnRoutes() error {
	routes, err := ownRoutes()
	if err != nil {
		return err
	}
	var errs []error
	for _, route := range routes {
		errs = append(errs, deleteRoute(route))
	}
	return errors.Join(errs...)
}

func deleteRoute(route netlink.Route) error {
	if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the route to %s: %w", route.Dst, err)
	}
	return nil
}
