package network

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

// Config is what one node's Pod network is built from. All of it but the kernel and
// the clock is fixed for the life of the cluster.
type Config struct {
	// BridgeName is the interface that carries the gateway address (keelson0).
	BridgeName string
	// ClusterCIDRs are the ranges that all nodes' Pod ranges are cut from, one of each
	// family; the first is the primary one, whose family Pods' first addresses have.
	ClusterCIDRs ranges.List
	// ServiceCIDRs are the ranges of cluster IPs, of the same families.
	ServiceCIDRs ranges.List
	// MTU of the Pods' interfaces in bytes; 0 takes what fits through the interface
	// which has the node's address, or else the default route, or 1500.
	MTU int

	// NodeName and NodeIPs are this node's, as other nodes know them from its Node.
	NodeName string
	NodeIPs  []netip.Addr
	// Overlay says how packets get to other nodes; OverlayPort is the UDP port of VXLAN.
	Overlay     overlay.Mode
	OverlayPort int

	// StateDir keeps what must survive a restart: the address leases.
	StateDir string
	// NetNSDir holds one bind-mounted network namespace per Pod, named by its UID.
	NetNSDir string

	// Kernel is the seam to the machine; nil means the real one.
	Kernel netlinkx.Kernel
	// Clock stamps leases; nil means the real one.
	Clock clock.PassiveClock
}

// DefaultConfig returns the settings of a node that has no other beside it.
func DefaultConfig() Config {
	return Config{
		BridgeName:   "keelson0",
		ClusterCIDRs: ranges.MustParse("10.244.0.0/16"),
		ServiceCIDRs: ranges.MustParse("10.254.0.0/16"),
		Overlay:      overlay.None, OverlayPort: overlay.DefaultPort,
		StateDir: "/var/lib/keelson/network",
		NetNSDir: "/run/keelson/netns",
	}
}

const (
	maxLinkName = 15
	minMTU      = 576  // RFC 791: what every IPv4 host accepts
	minMTU6     = 1280 // RFC 8200
	maxMTU      = 65535
)

// Validate reports every setting that cannot work, named as in this struct.
func (c Config) Validate() error {
	var errs []error
	if c.BridgeName == "" || len(c.BridgeName) > maxLinkName {
		errs = append(errs, fmt.Errorf("bridgeName %q: must have 1 to %d characters", c.BridgeName, maxLinkName))
	}
	errs = append(errs, validateRanges("clusterCIDR", c.ClusterCIDRs), validateRanges("serviceCIDR", c.ServiceCIDRs),
		ranges.CheckPair("serviceCIDR", c.ServiceCIDRs, "clusterCIDR", c.ClusterCIDRs), c.validateOverlay())
	if least := c.leastMTU(); c.MTU != 0 && (c.MTU < least || c.MTU > maxMTU) {
		errs = append(errs, fmt.Errorf("mtu %d: must be 0 (detect) or between %d and %d", c.MTU, least, maxMTU))
	}
	if !filepath.IsAbs(c.StateDir) {
		errs = append(errs, fmt.Errorf("stateDir %q: must be an absolute path", c.StateDir))
	}
	if !filepath.IsAbs(c.NetNSDir) {
		errs = append(errs, fmt.Errorf("netNSDir %q: must be an absolute path", c.NetNSDir))
	}
	return errors.Join(errs...)
}

func (c Config) validateOverlay() error {
	switch c.Overlay {
	case overlay.None:
		return nil
	case overlay.VXLAN, overlay.HostGW:
	default:
		return fmt.Errorf("overlay %q: must be %s, %s or %s", c.Overlay, overlay.VXLAN, overlay.HostGW, overlay.None)
	}
	if c.Overlay == overlay.VXLAN && (c.OverlayPort < 1 || c.OverlayPort > 65535) {
		return fmt.Errorf("overlayPort %d: must be between 1 and 65535", c.OverlayPort)
	}
	if c.NodeName == "" || !slices.ContainsFunc(c.NodeIPs, netip.Addr.Is4) {
		return fmt.Errorf("nodeName %q, nodeIPs %v: the overlay needs a name and an IPv4 address", c.NodeName, c.NodeIPs)
	}
	for _, ip := range c.NodeIPs {
		if c.ClusterCIDRs.Contains(ip) || c.ServiceCIDRs.Contains(ip) {
			return fmt.Errorf("nodeIPs: %s is inside of clusterCIDR %s or serviceCIDR %s", ip, c.ClusterCIDRs, c.ServiceCIDRs)
		}
	}
	return nil
}

func (c Config) leastMTU() int {
	if c.ClusterCIDRs.V6().IsValid() {
		return minMTU6
	}
	return minMTU
}

func validateRanges(field string, list ranges.List) error {
	if len(list) == 0 {
		return fmt.Errorf("%s: required, for example 10.244.0.0/16", field)
	}
	if _, err := ranges.Parse(field, list.String()); err != nil {
		return err
	}
	return nil
}
