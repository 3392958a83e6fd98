package netlinkx

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (handle) Addrs() ([]Addr, error) {
	list, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, wrap(err, "listing addresses")
	}
	addrs := make([]Addr, 0, len(list))
	for _, a := range list {
		if p := fromIPNet(a.IPNet); !p.Addr().Is6() || !p.Addr().IsLinkLocalUnicast() {
			addrs = append(addrs, Addr{Link: a.LinkIndex, Prefix: p})
		}
	}
	return addrs, nil
}

func (handle) ReplaceAddr(a Addr) error {
	err := retryErr(func() error {
		addr := &netlink.Addr{IPNet: toIPNet(a.Prefix)}
		if a.Prefix.Addr().Is6() {
			// Nobody else has it: without a search for another owner it can be used at once.
			addr.Flags = unix.IFA_F_NODAD
		}
		return netlink.AddrReplace(byIndex(a.Link), addr)
	})
	return wrap(err, "giving interface %d the address %s", a.Link, a.Prefix)
}

func (handle) DeleteAddr(a Addr) error {
	err := retryErr(func() error {
		return netlink.AddrDel(byIndex(a.Link), &netlink.Addr{IPNet: toIPNet(a.Prefix)})
	})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return wrap(err, "taking the address %s from interface %d", a.Prefix, a.Link)
}

func (handle) Routes() ([]Route, error) {
	list, err := retry(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, wrap(err, "listing routes")
	}
	routes := make([]Route, 0, len(list))
	for _, r := range list {
		route := fromRoute(r)
		if a := route.Dst.Addr(); !a.Is6() || !a.IsLinkLocalUnicast() && !a.IsMulticast() {
			routes = append(routes, route)
		}
	}
	return routes, nil
}

func fromRoute(r netlink.Route) Route {
	out := Route{
		Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Link: r.LinkIndex, Via: fromIP(r.Gw), Src: fromIP(r.Src),
		Protocol: int(r.Protocol), Unreachable: r.Type == unix.RTN_UNREACHABLE, OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0,
	}
	if r.Family == netlink.FAMILY_V6 {
		out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if out.Unreachable {
		out.Link = 0 // IPv6 names the loopback interface
	}
	if r.Dst != nil {
		out.Dst = fromIPNet(r.Dst)
	}
	return out
}

func (r Route) toNetlink() *netlink.Route {
	out := &netlink.Route{
		Dst: toIPNet(r.Dst), LinkIndex: r.Link, Protocol: netlink.RouteProtocol(r.Protocol),
		Family: familyOf(r.Dst.Addr()), Table: unix.RT_TABLE_MAIN,
	}
	if r.Src.IsValid() {
		out.Src = r.Src.AsSlice()
	}
	switch {
	case r.Unreachable:
		out.Type = unix.RTN_UNREACHABLE
	case r.Via.IsValid():
		out.Gw = r.Via.AsSlice()
		if r.OnLink {
			out.Flags = int(netlink.FLAG_ONLINK)
		}
	default:
		out.Scope = netlink.SCOPE_LINK
	}
	return out
}

func (handle) ReplaceRoute(r Route) error {
	return wrap(retryErr(func() error { return netlink.RouteReplace(r.toNetlink()) }), "setting the route to %s", r.Dst)
}

func (handle) DeleteRoute(r Route) error {
	err := retryErr(func() error { return netlink.RouteDel(r.toNetlink()) })
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return wrap(err, "deleting the route to %s", r.Dst)
}

func (handle) SetNeighbour(n Neighbour) error {
	err := retryErr(func() error {
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: n.Link, Family: familyOf(n.IP), State: netlink.NUD_PERMANENT,
			IP: n.IP.AsSlice(), HardwareAddr: n.MAC,
		})
	})
	return wrap(err, "setting the neighbour %s on interface %d", n.IP, n.Link)
}
