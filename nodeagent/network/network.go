// Package network gives the Pods of one node their network: a namespace each, an
// address from the node's Pod range, a veth pair, and the routes that make every
// packet of a Pod pass the node's IP layer.
//
// A Pod has a /32 address and knows only its gateway (the address of keelson0), so
// Pods are never neighbours on one link: traffic between two Pods of a node is
// routed, and therefore seen by conntrack in both directions. That is what makes
// Services work without br_netfilter (docs/adr/0010-routed-pod-interfaces.md).
//
// The package never runs a program, never polls, never touches iptables (masquerade
// and accept rules belong to nodeagent/proxy), and changes nothing that it cannot
// recognise as Keelson's: the interface keelson0, interfaces named kls and a hash,
// routes of protocol 75, the files of its two directories.
//
// Recovery: the lease of an address is written before anything else of a Pod exists
// and removed after everything else is gone. So whatever has no lease is garbage,
// Setup and Teardown may be repeated after a crash at any point, and Sweep needs to
// ask only whose leases are still wanted. Lost leases of live namespaces are read
// back from the kernel's routes by Configure.
package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/ipam"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// ErrNotConfigured is returned by Setup before Configure has succeeded once.
var ErrNotConfigured = errors.New("the Pod network is not configured: the Node has no Pod range (spec.podCIDR) yet")

// PodRef says whose network is meant. Only the UID identifies; the names are kept in
// the lease for whoever reads it.
type PodRef struct {
	UID       types.UID
	Namespace string
	Name      string
	// Users are the IDs of the user namespace that owns the Pod's network, nil for the
	// machine's own.
	Users *userns.Range
}

// PodNetwork is what a Pod got.
type PodNetwork struct {
	// NetNSPath is the bind mount of the Pod's network namespace.
	NetNSPath string
	// IP is the Pod's IPv4 address, Gateway its only neighbour.
	IP      netip.Addr
	Gateway netip.Addr
	// IP6 and Gateway6 are the same of IPv6, zero without it.
	IP6      netip.Addr
	Gateway6 netip.Addr
	// Prefer6 says that the cluster's primary family is IPv6.
	Prefer6 bool
	MTU     int
}

// IPs returns the Pod's addresses, that of the cluster's primary family first.
func (p PodNetwork) IPs() []netip.Addr {
	switch {
	case !p.IP6.IsValid():
		return []netip.Addr{p.IP}
	case p.Prefer6:
		return []netip.Addr{p.IP6, p.IP}
	}
	return []netip.Addr{p.IP, p.IP6}
}

// Network is the Pod network of this node. Its methods may be called concurrently;
// calls for one Pod wait for each other, calls for different Pods do not.
type Network struct {
	cfg    Config
	kernel netlinkx.Kernel
	clock  clock.PassiveClock

	configuring sync.Mutex
	overlay     *overlay.Overlay
	current     atomic.Pointer[configured]
	pods        keyedMutex
}

// configured is what Configure established; it is replaced as a whole.
type configured struct {
	ranges ranges.List
	mtu    int
	ipam   *ipam.IPAM
}

// gateway is the address that the node has in a range of its Pods, invalid without one.
func gateway(p netip.Prefix) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	return p.Addr().Next()
}

// New returns the network of a valid Config. It does nothing yet.
func New(cfg Config) *Network {
	n := &Network{cfg: cfg, kernel: cfg.Kernel, clock: cfg.Clock}
	if n.kernel == nil {
		n.kernel = netlinkx.New()
	}
	if n.clock == nil {
		n.clock = clock.RealClock{}
	}
	n.overlay = overlay.New(overlay.Config{Mode: cfg.Overlay, Port: cfg.OverlayPort, Cluster: cfg.ClusterCIDRs}, n.kernel)
	return n
}

// Lookup returns what the Pod holds; false when it has no address. It reads memory
// only: after a restart it knows all leases once Configure has run.
func (n *Network) Lookup(uid types.UID) (PodNetwork, bool) {
	c := n.current.Load()
	if c == nil {
		return PodNetwork{}, false
	}
	lease, ok := c.ipam.Lookup(uid)
	if !ok {
		return PodNetwork{}, false
	}
	return n.describe(c, lease), true
}

func (n *Network) describe(c *configured, lease ipam.Lease) PodNetwork {
	p := PodNetwork{
		NetNSPath: n.netNSPath(lease.UID), IP: lease.IP, Gateway: gateway(c.ranges.V4()), MTU: c.mtu,
		Prefer6: !n.cfg.ClusterCIDRs[0].Addr().Is4(),
	}
	if lease.IP6.IsValid() {
		p.IP6, p.Gateway6 = lease.IP6, gateway(c.ranges.V6())
	}
	return p
}

func (n *Network) netNSPath(uid types.UID) string { return filepath.Join(n.cfg.NetNSDir, string(uid)) }

func (n *Network) leaseDir() string { return filepath.Join(n.cfg.StateDir, "leases") }

// lockPod waits for the Pod's turn and refuses UIDs that cannot be file names.
func (n *Network) lockPod(ctx context.Context, uid types.UID) (unlock func(), err error) {
	if err := validateUID(uid); err != nil {
		return nil, err
	}
	unlock = n.pods.lock(linkName(uid))
	if err := ctx.Err(); err != nil {
		unlock()
		return nil, fmt.Errorf("waiting for the network of Pod %s: %w", uid, err)
	}
	return unlock, nil
}
