// Package heldaddr gives an interface of this machine an address for a few seconds at a
// time, and tells the neighbours of it: the address of a load balancer, which one node
// after the other has.
//
// The kernel itself takes an address away when its time is over. So a process that
// dies or hangs leaves nothing behind that would have to be recognised and swept, and
// cannot keep an address for longer than it was sure of. The package decides nothing
// and keeps nothing.
package heldaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoInterface says that no interface has the node's address.
var ErrNoInterface = errors.New("no interface has the node's address")

// Holder holds addresses on the interfaces that have the node's own.
type Holder struct {
	// NodeIPs are the node's addresses, at most one of each family.
	NodeIPs []netip.Addr
}

// Hold gives the interface addr until lifetime has passed, or prolongs that. Parts of a
// second are cut off, less than a second is an error. The kernel never chooses the
// address as the source of a connection of this machine.
func (h Holder) Hold(addr netip.Addr, lifetime time.Duration) error {
	seconds := int(lifetime / time.Second)
	if seconds < 1 {
		return fmt.Errorf("hold %s: its time of %s is over", addr, lifetime)
	}
	link, err := h.link(addr)
	if err != nil {
		return fmt.Errorf("hold %s: %w", addr, err)
	}
	a := netlinkAddr(addr)
	a.ValidLft = seconds // preferred for 0 s: nothing is sent from it by itself
	a.Flags = unix.IFA_F_NOPREFIXROUTE
	if addr.Is6() {
		a.Flags |= unix.IFA_F_NODAD // its last holder may not have heard yet
	}
	if err := netlink.AddrReplace(link, a); err != nil {
		return fmt.Errorf("hold %s on interface %s: %w", addr, link.Attrs().Name, err)
	}
	return nil
}

// Drop takes addr away at once; it succeeds when the interface does not have it.
func (h Holder) Drop(addr netip.Addr) error {
	link, err := h.link(addr)
	if errors.Is(err, ErrNoInterface) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("drop %s: %w", addr, err)
	}
	err = netlink.AddrDel(link, netlinkAddr(addr))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("drop %s from interface %s: %w", addr, link.Attrs().Name, err)
	}
	return nil
}

// Sweep drops all addresses that mine says are ours and that Hold has given: those
// whose time is limited.
func (h Holder) Sweep(mine func(netip.Addr) bool) error {
	var errs []error
	for _, ip := range h.NodeIPs {
		link, err := h.link(ip)
		if err != nil {
			continue // what is gone has no addresses
		}
		held, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			errs = append(errs, fmt.Errorf("list the addresses of interface %s: %w", link.Attrs().Name, err))
		}
		for _, a := range held {
			addr, ok := netip.AddrFromSlice(a.IP)
			ones, bits := a.Mask.Size()
			if ok && ones == bits && a.Flags&unix.IFA_F_PERMANENT == 0 && mine(addr.Unmap()) {
				errs = append(errs, h.Drop(addr.Unmap()))
			}
		}
	}
	return errors.Join(errs...)
}

func netlinkAddr(addr netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
}

// link is the interface of the node's address of the family of addr, or of its other
// one.
func (h Holder) link(addr netip.Addr) (netlink.Link, error) {
	own := slices.Clone(h.NodeIPs)
	slices.SortStableFunc(own, func(a, b netip.Addr) int {
		if a.BitLen() == b.BitLen() {
			return 0
		}
		if a.BitLen() == addr.BitLen() {
			return -1
		}
		return 1
	})
	for _, ip := range own {
		all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list the addresses of this machine: %w", err)
		}
		i := slices.IndexFunc(all, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) })
		if i < 0 {
			continue
		}
		link, err := netlink.LinkByIndex(all[i].LinkIndex)
		if err != nil {
			return nil, fmt.Errorf("find the interface of %s: %w", ip, err)
		}
		return link, nil
	}
	return nil, fmt.Errorf("%w (%v)", ErrNoInterface, h.NodeIPs)
}
