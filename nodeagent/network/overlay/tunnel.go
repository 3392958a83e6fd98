package overlay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// hardwareAddress is that of the tunnel of the node with this IPv4 range: unique as
// the range is, and known to everybody who knows the range. 0x0a marks it as locally
// administered.
func hardwareAddress(v4 netip.Prefix) string {
	b := v4.Addr().As4()
	return net.HardwareAddr{0x0a, 0x4d, b[0], b[1], b[2], b[3]}.String()
}

// gateway is the address that a node has in its Pods' range.
func gateway(p netip.Prefix) netip.Addr { return p.Addr().Next() }

func computeTunnel(cfg Config, self Node, mtu int) netlinkx.VXLAN {
	return netlinkx.VXLAN{
		Name: Interface, ID: networkID, Port: cfg.Port, Local: ipOf(self.IPs, true),
		MAC: hardwareAddress(self.Ranges.V4()), MTU: mtu,
	}
}

// ensureTunnel makes the interface as it must be. One that differs in what cannot be
// changed is made anew: an address of this node or a port has changed.
//
// It carries the gateway's addresses, because what the proxy masquerades gets an
// address of the interface that it leaves by, and answers must find the way back.
func (o *Overlay) ensureTunnel(self Node, mtu int) (device, error) {
	want := computeTunnel(o.cfg, self, mtu)
	if err := o.ensureKind(want); err != nil {
		return device{}, err
	}
	l, err := o.kernel.Link(Interface)
	if err != nil {
		return device{}, err
	}
	if err := netlinkx.SetIPv6(o.kernel, Interface, self.Ranges.V6().IsValid(), true); err != nil {
		return device{}, err
	}
	if l.MTU != mtu {
		if err := o.kernel.SetMTU(l.Index, mtu); err != nil {
			return device{}, err
		}
	}
	if !l.Up {
		if err := o.kernel.SetUp(l.Index); errors.Is(err, unix.EADDRINUSE) {
			return device{}, fmt.Errorf("UDP port %d is in use by another program: give all nodes another --overlay-port: %w", o.cfg.Port, err)
		} else if err != nil {
			return device{}, err
		}
	}
	return device{index: l.Index}, o.ensureAddresses(l.Index, self.Ranges)
}

// ensureKind leaves an interface of that name that is up to its use but for its MTU.
func (o *Overlay) ensureKind(want netlinkx.VXLAN) error {
	l, err := o.kernel.Link(Interface)
	switch {
	case errors.Is(err, netlinkx.ErrNotFound):
		return o.addTunnel(want)
	case err != nil:
		return err
	case l.Kind != "vxlan":
		return fmt.Errorf("interface %s is a %s, not a tunnel: remove it", Interface, l.Kind)
	}
	have, err := o.kernel.VXLAN(Interface)
	if err != nil {
		return err
	}
	have.MTU = want.MTU
	if have == want {
		return nil
	}
	if err := o.deleteTunnel(); err != nil {
		return err
	}
	return o.addTunnel(want)
}

func (o *Overlay) addTunnel(want netlinkx.VXLAN) error {
	err := o.kernel.AddVXLAN(want)
	if errors.Is(err, netlinkx.ErrExists) {
		return fmt.Errorf("%w: another interface has this VXLAN network: remove it, or give all nodes another --overlay-port", err)
	}
	return err
}

func (o *Overlay) deleteTunnel() error {
	l, err := o.kernel.Link(Interface)
	if errors.Is(err, netlinkx.ErrNotFound) || err == nil && l.Kind != "vxlan" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := o.kernel.DeleteLink(Interface); err != nil && !errors.Is(err, netlinkx.ErrNotFound) {
		return err
	}
	return nil
}

func (o *Overlay) ensureAddresses(link int, own ranges.List) error {
	addrs, err := o.kernel.Addrs()
	if err != nil {
		return err
	}
	want := map[netlinkx.Addr]bool{}
	for _, p := range own {
		want[netlinkx.Addr{Link: link, Prefix: netip.PrefixFrom(gateway(p), p.Addr().BitLen())}] = true
	}
	for _, a := range addrs {
		switch {
		case a.Link != link:
		case want[a]:
			delete(want, a)
		default:
			if err := o.kernel.DeleteAddr(a); err != nil {
				return err
			}
		}
	}
	for a := range want {
		if err := o.kernel.ReplaceAddr(a); err != nil {
			return err
		}
	}
	return nil
}

func ipOf(ips []netip.Addr, v4 bool) netip.Addr {
	for _, ip := range ips {
		if ip.Is4() == v4 {
			return ip
		}
	}
	return netip.Addr{}
}
