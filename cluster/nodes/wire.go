package nodes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// Bridge is the switch between the nodes. Its name and those of its ports differ
	// from those of Pods' interfaces.
	Bridge = "keelson-nodes"
	// portPrefix begins the names of the bridge's ports; the node's number follows.
	portPrefix = "keelson-n"
	// uplink is the node's end of its wire.
	uplink = "eth0"
)

// portName is the bridge's end of the wire of the node with that address.
func (o Options) portName(node netip.Addr) string {
	a, first := node.As4(), o.Network.Masked().Addr().As4()
	number := 0
	for i := range a {
		number = number<<8 | int(a[i]) - int(first[i])
	}
	return portPrefix + strconv.Itoa(number)
}

// hardwareAddress follows from the address, so that neighbours that were learned stay
// true, and nothing on this machine thinks it has to choose another.
func hardwareAddress(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x0a, 0x6b, b[0], b[1], b[2], b[3]}
}

// EnsureNetwork makes the bridge with this machine's address, and lets the nodes out.
func (m *Machine) EnsureNetwork() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	link, err := ensureBridge()
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", Bridge, err)
	}
	if m.options.Network6.IsValid() {
		if err := checkIPv6(m.options.Network6); err != nil {
			return err
		}
	}
	for _, network := range m.options.networks() {
		address := netip.PrefixFrom(Gateway(network), network.Bits())
		if err := ensureAddress(link, address); err != nil {
			return fmt.Errorf("give bridge %s the address %s: %w", Bridge, address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring bridge %s up: %w", Bridge, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("forward packets of nodes: %w", err)
	}
	if !m.options.Network6.IsValid() {
		return nil
	}
	if err := forwardIPv6("/proc/sys/net/ipv6/conf"); err != nil {
		return fmt.Errorf("forward IPv6 packets of nodes: %w", err)
	}
	return nil
}

func ensureBridge() (netlink.Link, error) {
	link, err := netlink.LinkByName(Bridge)
	if err == nil {
		if link.Type() != "bridge" {
			return nil, fmt.Errorf("there is an interface of that name that is a %s: remove it", link.Type())
		}
		return link, nil
	}
	if !isNotFound(err) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = Bridge
	// Chosen, else it would change with the ports.
	attrs.HardwareAddr = net.HardwareAddr{0x0a, 0x6b, 0, 0, 0, 1}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return nil, err
	}
	return netlink.LinkByName(Bridge)
}

// ensureAddress leaves the interface with that address and no other of its family that
// leads beyond the link.
func ensureAddress(link netlink.Link, want netip.Prefix) error {
	family := netlink.FAMILY_V4
	if want.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	have, err := netlink.AddrList(link, family)
	if err != nil {
		return err
	}
	found := false
	for _, a := range have {
		if a.IPNet.String() == ipNet(want).String() {
			found = true
		} else if a.IP.IsLinkLocalUnicast() {
			continue // the kernel's own
		} else if err := netlink.AddrDel(link, &a); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	return netlink.AddrAdd(link, newAddr(want))
}

// newAddr is used at once: nobody else has what the cluster gives out.
func newAddr(p netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[netlink.LinkNotFoundError](err)
	return ok
}

// ensureWire connects the node with a port, which ApplyTraffic puts on the bridge.
func (m *Machine) ensureWire(n Node) error {
	if err := m.tryWire(n); err != nil {
		return fmt.Errorf("connect node %s: %w", n.Name, err)
	}
	return nil
}

func (m *Machine) tryWire(n Node) error {
	ns, err := netns.GetFromPath(m.pin(n.Name, "net"))
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return err
	}
	defer inside.Close()
	port := m.options.portName(n.Address)
	eth, err := inside.LinkByName(uplink)
	if isNotFound(err) {
		if err := removeLink(port); err != nil { // one whose other end is elsewhere
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name = port
		veth := &netlink.Veth{
			LinkAttrs: attrs, PeerName: uplink, PeerNamespace: netlink.NsFd(ns), PeerHardwareAddr: hardwareAddress(n.Address),
		}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add %s: %w", port, err)
		}
		eth, err = inside.LinkByName(uplink)
	}
	if err != nil {
		return err
	}
	if err := setUp(port); err != nil {
		return err
	}
	return m.configureInside(inside, eth, n)
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// configureInside gives the node its address and the way out.
func (m *Machine) configureInside(inside *netlink.Handle, eth netlink.Link, n Node) error {
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := errors.Join(inside.LinkSetUp(lo), inside.LinkSetUp(eth)); err != nil {
		return err
	}
	addresses := m.options.addresses(n.Address)
	for i, network := range m.options.networks() {
		if err := inside.AddrReplace(eth, newAddr(netip.PrefixFrom(addresses[i], network.Bits()))); err != nil {
			return fmt.Errorf("set address %s: %w", addresses[i], err)
		}
		route := &netlink.Route{LinkIndex: eth.Attrs().Index, Gw: Gateway(network).AsSlice()}
		if err := inside.RouteReplace(route); err != nil {
			return fmt.Errorf("set default route by %s: %w", Gateway(network), err)
		}
	}
	return nil
}

// removeWire removes the port of a node. Its other end tells whose it is only as long
// as the node is there; a port without one disappears with the node's namespace.
func (m *Machine) removeWire(name string) error {
	ns, err := netns.GetFromPath(m.pin(name, "net"))
	if err != nil {
		return nil // no such node, hence no wire
	}
	defer func() { _ = ns.Close() }()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return nil // a pin that nothing is mounted at
	}
	defer inside.Close()
	eth, err := inside.LinkByName(uplink)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		err = inside.LinkDel(eth)
	}
	if err != nil {
		return fmt.Errorf("remove the wire of node %s: %w", name, err)
	}
	return nil
}

func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// RemoveNetwork removes what EnsureNetwork, ApplyTraffic and ApplyRoutes made; the
// nodes have to be removed before. That packets are forwarded stays: others may have
// come to need it.
func (m *Machine) RemoveNetwork(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	left, err := m.Present()
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("nodes %v are still there", left)
	}
	if err := errors.Join(m.removeFilters(ctx), removeOwnRoutes(), removeLink(Bridge)); err != nil {
		return err
	}
	if err := unix.Unmount(m.options.Dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", m.options.Dir, err)
	}
	// LibDir was only made to be covered; somebody else's is not empty.
	for _, dir := range []string{m.options.Dir, LibDir} {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("remove an empty folder: %w", err)
		}
	}
	return removeRootCgroup(m.options.CgroupRoot)
}

// removeRootCgroup removes the cgroup above the nodes where nothing is left in it.
func removeRootCgroup(cgroup string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := unix.Rmdir(root + cgroup)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return fmt.Errorf("remove the cgroup %s: %w", cgroup, err)
		}
	}
	return nil
}
