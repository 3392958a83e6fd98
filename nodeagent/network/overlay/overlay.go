// Package overlay lets the Pods of one node reach those of all others: a route for
// each range of each other node, through a VXLAN tunnel or, where all nodes share a
// link, to that node directly.
//
// Everything follows from the Nodes alone (their ranges and addresses): hardware
// addresses are derived from ranges, so the tunnel neither learns nor floods nor asks,
// and nodes tell each other nothing. The package decides from a list of all nodes,
// writes only the difference to what the kernel has, and never touches what it cannot
// recognise as its own: the interface kls-vxlan and all on it, and routes of protocol
// 75 that lead to a gateway.
//
// Recovery: nothing is kept on disk. The first Sync of a process, one after an error
// and one that is told to read the kernel and make it right; others compare with what
// the last one wrote.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// Mode says how packets get to other nodes.
type Mode string

// The modes.
const (
	// VXLAN wraps packets for other nodes into UDP: it works over any network.
	VXLAN Mode = "vxlan"
	// HostGW sends them to the other node as they are, which takes a common link.
	HostGW Mode = "host-gw"
	// None leaves the routes to somebody else.
	None Mode = "none"
)

const (
	// Interface is the name of the tunnel.
	Interface = "kls-vxlan"
	// DefaultPort is nobody's: flannel and Cilium have 8472, Calico and Docker 4789.
	DefaultPort = 8473
	// RouteProtocol marks our routes (rtnetlink(7), rtm_protocol); the number is in
	// nobody's list.
	RouteProtocol = 75

	networkID = 75
	// vxlanOverhead is an Ethernet, a VXLAN, a UDP and an IPv4 header.
	vxlanOverhead = 14 + 8 + 8 + 20
)

// Overhead is how many bytes of a packet of the nodes' network a Pod cannot use.
func (m Mode) Overhead() int {
	if m == VXLAN {
		return vxlanOverhead
	}
	return 0
}

// Config is what is the same for the life of the process.
type Config struct {
	Mode Mode
	// Port is the UDP port of VXLAN.
	Port int
	// Cluster are the ranges of all Pods of the cluster.
	Cluster ranges.List
}

// Node is one node as the overlay sees it.
type Node struct {
	Name string
	// IPs are its addresses, at most one of each family.
	IPs []netip.Addr
	// Ranges are those of its Pods.
	Ranges ranges.List
}

// Overlay is this node's side. Its methods must not run at the same time.
type Overlay struct {
	cfg    Config
	kernel netlinkx.Handle
	last   *written
}

// written is what the last Sync left in the kernel.
type written struct {
	self    string // what the interface was made from; empty without one
	device  device
	entries entries
}

// device is where packets to other nodes leave.
type device struct {
	index int
	// prefixes are the networks on the link, for HostGW.
	prefixes []netip.Prefix
}

// New returns the overlay of a valid Config. It does nothing yet.
func New(cfg Config, kernel netlinkx.Handle) *Overlay { return &Overlay{cfg: cfg, kernel: kernel} }

// Forget makes the next Sync read the kernel, since somebody may have changed it.
func (o *Overlay) Forget() { o.last = nil }

// Sync makes the kernel lead to all of nodes, among which self may be. mtu is that of
// this node's Pods. The problems name nodes that cannot be reached, and why; they are
// no error, since all others can.
func (o *Overlay) Sync(ctx context.Context, self Node, mtu int, nodes []Node) ([]Problem, error) {
	if o.cfg.Mode == None {
		if o.last != nil {
			return nil, nil
		}
		if err := o.Remove(); err != nil {
			return nil, fmt.Errorf("removing the overlay, which is switched off: %w", err)
		}
		o.last = &written{}
		return nil, nil
	}
	problems, err := o.sync(ctx, self, mtu, nodes)
	if err != nil {
		o.last = nil
		return nil, fmt.Errorf("setting up the overlay network: %w", err)
	}
	return problems, nil
}

func (o *Overlay) sync(ctx context.Context, self Node, mtu int, nodes []Node) ([]Problem, error) {
	if alone, problems := o.isAlone(self, nodes); alone {
		return problems, o.settleAlone()
	}
	identity := fmt.Sprint(self.IPs, self.Ranges, mtu)
	var have entries
	if o.last != nil && o.last.self == identity {
		have = o.last.entries
	} else {
		d, err := o.prepare(self, mtu)
		if err != nil {
			return nil, err
		}
		if have, err = readEntries(o.kernel, d.index, o.cfg.Mode); err != nil {
			return nil, err
		}
		o.last = &written{self: identity, device: d}
	}
	want, problems := computeEntries(o.cfg, self, o.last.device, nodes)
	set, gone := diff(have, want)
	if err := o.apply(set, gone); err != nil {
		return nil, err
	}
	o.last.entries = want
	if len(set)+len(gone) > 0 {
		klog.FromContext(ctx).V(2).Info("Changed the ways to other nodes", "mode", o.cfg.Mode, "set", len(set), "removed", len(gone), "routes", len(want))
	}
	return problems, nil
}

// isAlone says that no tunnel is needed: there is no other node, and none was there
// since the last look at the kernel.
func (o *Overlay) isAlone(self Node, nodes []Node) (bool, []Problem) {
	if o.cfg.Mode != VXLAN || o.last != nil && o.last.self != "" {
		return false, nil
	}
	want, problems := computeEntries(o.cfg, self, device{}, nodes)
	return len(want) == 0, problems
}

// settleAlone leaves nothing of an overlay: a cluster of one node works on kernels
// without VXLAN.
func (o *Overlay) settleAlone() error {
	if o.last != nil {
		return nil
	}
	if err := o.Remove(); err != nil {
		return err
	}
	o.last = &written{}
	return nil
}

// prepare makes the interface, or finds the one that packets leave by.
func (o *Overlay) prepare(self Node, mtu int) (device, error) {
	if o.cfg.Mode == VXLAN {
		return o.ensureTunnel(self, mtu)
	}
	if err := o.deleteTunnel(); err != nil {
		return device{}, err
	}
	addrs, err := o.kernel.Addrs()
	if err != nil {
		return device{}, err
	}
	return findDevice(self, addrs)
}

// findDevice returns the interface that has the node's address, and its networks.
func findDevice(self Node, addrs []netlinkx.Addr) (device, error) {
	own := ipOf(self.IPs, true)
	d := device{}
	for _, a := range addrs {
		if a.Prefix.Addr() == own {
			d.index = a.Link
		}
	}
	if d.index == 0 {
		return d, fmt.Errorf("no interface has the node's address %s: give another with --node-ip", own)
	}
	for _, a := range addrs {
		if a.Link == d.index {
			d.prefixes = append(d.prefixes, a.Prefix.Masked())
		}
	}
	return d, nil
}

// Remove takes all of the overlay off the machine; it may be repeated.
func (o *Overlay) Remove() error {
	o.last = nil
	errs := []error{o.deleteTunnel()}
	routes, err := o.kernel.Routes()
	errs = append(errs, err)
	for _, r := range routes {
		if IsRoute(r) {
			errs = append(errs, o.kernel.DeleteRoute(r))
		}
	}
	return errors.Join(errs...)
}

// IsRoute says whether a route is the overlay's: Keelson's own other routes lead to no
// gateway.
func IsRoute(r netlinkx.Route) bool { return r.Protocol == RouteProtocol && r.Via.IsValid() }
