package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/keelson-dev/keelson/cluster/nodes"
)

// outsiderWire is the name of the outsider's wire at the switch.
const outsiderWire = "outsider"

// Outsider is a computer in the network of a cluster's nodes that is none of them and
// knows nothing of the cluster: a network namespace without a name, at the switch.
type Outsider struct {
	namespace netns.NsHandle
	links     *netlink.Handle
	eth       netlink.Link
}

// NewOutsider plugs one in, with an address such as 198.19.0.190/24.
func NewOutsider(address string) (o *Outsider, err error) {
	own, err := netlink.ParseAddr(address)
	if err != nil {
		return nil, fmt.Errorf("address of the outsider: %w", err)
	}
	o = &Outsider{namespace: netns.None()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("plug in the outsider: %w", err), o.Close())
		}
	}()
	if err := inNamespace(netns.None(), func() (err error) {
		o.namespace, err = netns.New()
		return err
	}); err != nil {
		return o, err
	}
	if o.links, err = netlink.NewHandleAt(o.namespace); err != nil {
		return o, err
	}
	bridge, err := netlink.LinkByName(nodes.Bridge)
	if err != nil {
		return o, err
	}
	wire := &netlink.Veth{PeerName: "eth0", PeerNamespace: netlink.NsFd(o.namespace)}
	wire.Name, wire.MasterIndex = outsiderWire, bridge.Attrs().Index
	if err := netlink.LinkAdd(wire); err != nil {
		return o, err
	}
	if o.eth, err = o.links.LinkByName("eth0"); err != nil {
		return o, err
	}
	loopback, err := o.links.LinkByName("lo")
	if err != nil {
		return o, err
	}
	return o, errors.Join(o.links.LinkSetUp(loopback), netlink.LinkSetUp(wire), o.links.LinkSetUp(o.eth), o.links.AddrAdd(o.eth, own))
}

// Dial connects from the outsider to an address, which is no name.
func (o *Outsider) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = inNamespace(o.namespace, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Route sends what is for one IPv4 address to a neighbour.
func (o *Outsider) Route(address, via string) error {
	to := &net.IPNet{IP: net.ParseIP(address), Mask: net.CIDRMask(32, 32)}
	if err := o.links.RouteReplace(&netlink.Route{LinkIndex: o.eth.Attrs().Index, Dst: to, Gw: net.ParseIP(via)}); err != nil {
		return fmt.Errorf("send %s to %s: %w", address, via, err)
	}
	return nil
}

// MoveFar gives the outsider an address of a network that the nodes are not in, and the
// cluster's machine and its nodes the way there. What it sends to the nodes' network comes
// from that address then. It forgets the address that it had.
func (c *Cluster) MoveFar(o *Outsider, address net.IP, nodeNames []string) error {
	far := &net.IPNet{IP: address, Mask: net.CIDRMask(32, 32)}
	had, err := o.links.AddrList(o.eth, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the outsider's addresses: %w", err)
	}
	if err := o.links.AddrReplace(o.eth, &netlink.Addr{IPNet: far}); err != nil {
		return fmt.Errorf("give the outsider %s: %w", far, err)
	}
	for _, a := range had {
		if err := o.links.AddrDel(o.eth, &a); err != nil {
			return fmt.Errorf("take %s from the outsider: %w", a, err)
		}
		near := &net.IPNet{IP: a.IP.Mask(a.Mask), Mask: a.Mask}
		if err := o.links.RouteReplace(&netlink.Route{LinkIndex: o.eth.Attrs().Index, Dst: near, Src: address, Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("lead the outsider to %s: %w", near, err)
		}
	}
	back := func(link string) error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		return netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: far, Scope: netlink.SCOPE_LINK})
	}
	if err := back(nodes.Bridge); err != nil {
		return fmt.Errorf("lead the machine to %s: %w", far, err)
	}
	for _, name := range nodeNames {
		if err := c.InNode(name, func() error { return back("eth0") }); err != nil {
			return fmt.Errorf("lead node %s to %s: %w", name, far, err)
		}
	}
	return nil
}

// Start starts a program on the outsider.
func (o *Outsider) Start(cmd *exec.Cmd) error {
	return inNamespace(o.namespace, cmd.Start)
}

// Close takes it away.
func (o *Outsider) Close() error {
	var errs []error
	if wire, err := netlink.LinkByName(outsiderWire); err == nil {
		errs = append(errs, netlink.LinkDel(wire))
	}
	if o.links != nil {
		o.links.Close()
	}
	if o.namespace.IsOpen() {
		errs = append(errs, o.namespace.Close())
	}
	return errors.Join(errs...)
}

// inNamespace runs f on a thread of its own, in a network namespace unless it is none,
// and out of whichever f has entered afterwards.
func inNamespace(namespace netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		before, err := netns.Get()
		if err == nil && namespace.IsOpen() {
			err = netns.Set(namespace)
		}
		if err != nil {
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return // the thread ends: who knows where it is
		}
		err = errors.Join(f(), netns.Set(before), before.Close())
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}
