package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Readdress gives the interface of this network namespace that has an IPv4 address another
// one, as a router does that hands out addresses; its routes stay.
func Readdress(from, to netip.Addr) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		all, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("list the addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range all {
			if a.IP.Equal(from.AsSlice()) {
				return readdress(link, a, to)
			}
		}
	}
	return fmt.Errorf("no interface has %s", from)
}

func readdress(link netlink.Link, old netlink.Addr, to netip.Addr) error {
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the routes of %s: %w", link.Attrs().Name, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: to.AsSlice(), Mask: old.Mask}}
	if err := errors.Join(netlink.AddrDel(link, &old), netlink.AddrAdd(link, address)); err != nil {
		return fmt.Errorf("replace %s by %s: %w", old.IPNet, address.IPNet, err)
	}
	for _, route := range routes {
		if route.Gw == nil {
			continue // the kernel makes those to neighbours itself
		}
		if route.Src.Equal(old.IP) {
			route.Src = address.IP
		}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("keep the route to %s: %w", route.Dst, err)
		}
	}
	return nil
}
