package netlinkx

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (handle) AddVXLAN(v VXLAN) error {
	mac, err := net.ParseMAC(v.MAC)
	if err != nil {
		return fmt.Errorf("making tunnel %s: %w", v.Name, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = v.Name, v.MTU, mac
	err = retryErr(func() error {
		return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: v.ID, Port: v.Port, SrcAddr: v.Local.AsSlice(), Learning: false})
	})
	return wrap(err, "making tunnel %s (VXLAN network %d on UDP port %d)", v.Name, v.ID, v.Port)
}

func (handle) VXLAN(name string) (VXLAN, error) {
	l, err := retry(func() (netlink.Link, error) { return netlink.LinkByName(name) })
	if err != nil {
		return VXLAN{}, wrap(err, "interface %s", name)
	}
	v, ok := l.(*netlink.Vxlan)
	if !ok {
		return VXLAN{}, fmt.Errorf("tunnel %s: interface is a %s: %w", name, l.Type(), ErrNotFound)
	}
	return VXLAN{
		Name: v.Name, ID: v.VxlanId, Port: v.Port, Local: fromIP(v.SrcAddr),
		MAC: v.HardwareAddr.String(), MTU: v.MTU, Learning: v.Learning,
	}, nil
}

func (handle) Forwardings(link int) ([]Forwarding, error) {
	list, err := retry(func() ([]netlink.Neigh, error) { return netlink.NeighList(link, unix.AF_BRIDGE) })
	if err != nil {
		return nil, wrap(err, "listing the forwardings of interface %d", link)
	}
	var all []Forwarding
	for _, n := range list {
		if to, ok := netip.AddrFromSlice(n.IP); ok {
			all = append(all, Forwarding{Link: link, MAC: n.HardwareAddr.String(), To: to.Unmap()})
		}
	}
	return all, nil
}

func (f Forwarding) toNetlink() (*netlink.Neigh, error) {
	mac, err := net.ParseMAC(f.MAC)
	if err != nil {
		return nil, err
	}
	return &netlink.Neigh{
		LinkIndex: f.Link, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
		IP: f.To.AsSlice(), HardwareAddr: mac,
	}, nil
}

func (handle) SetForwarding(f Forwarding) error {
	n, err := f.toNetlink()
	if err == nil {
		err = retryErr(func() error { return netlink.NeighSet(n) })
	}
	return wrap(err, "sending %s of interface %d to %s", f.MAC, f.Link, f.To)
}

func (handle) DeleteForwarding(f Forwarding) error {
	n, err := f.toNetlink()
	if err == nil {
		err = retryErr(func() error { return netlink.NeighDel(n) })
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap(err, "forgetting that %s of interface %d is at %s", f.MAC, f.Link, f.To)
}

func (handle) Neighbours(link int) ([]Neighbour, error) {
	var all []Neighbour
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := retry(func() ([]netlink.Neigh, error) { return netlink.NeighList(link, family) })
		if err != nil {
			return nil, wrap(err, "listing the neighbours of interface %d", link)
		}
		for _, n := range list {
			if n.State&netlink.NUD_PERMANENT != 0 {
				all = append(all, Neighbour{Link: link, IP: fromIP(n.IP), MAC: n.HardwareAddr})
			}
		}
	}
	return all, nil
}

func (handle) DeleteNeighbour(n Neighbour) error {
	err := retryErr(func() error {
		return netlink.NeighDel(&netlink.Neigh{LinkIndex: n.Link, Family: familyOf(n.IP), IP: n.IP.AsSlice()})
	})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return wrap(err, "forgetting the neighbour %s of interface %d", n.IP, n.Link)
}

func (handle) Sysctl(name string) (string, error) {
	value, err := os.ReadFile(filepath.Join("/proc/sys", name))
	return strings.TrimSpace(string(value)), wrap(err, "reading %s", name)
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
