package network

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// Config is what one node's Pod network is built from. All of it but the kernel and
// the clock is fixed for the life of the cluster.
type Config struct {
	// BridgeName is the interface that carries the gateway address (keelson0).
	BridgeName string
	// ClusterCIDR is the range that all nodes' Pod ranges are cut from.
	ClusterCIDR netip.Prefix
	// ServiceCIDR is the range of cluster IPs.
	ServiceCIDR netip.Prefix
	// MTU of the Pods' interfaces in bytes; 0 takes that of the interface which has
	// the default route, or 1500.
	MTU int
	// StateDir keeps what must survive a restart: the address leases.
	StateDir string
	// NetNSDir holds one bind-mounted network namespace per Pod, named by its UID.
	NetNSDir string

	// Kernel is the seam to the machine; nil means the real one.
	Kernel netlinkx.Kernel
	// Clock stamps leases; nil means the real one.
	Clock clock.PassiveClock
}

// DefaultConfig returns the settings of a node that was told nothing else.
func DefaultConfig() Config {
	return Config{
		BridgeName:  "keelson0",
		ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16"),
		StateDir:    "/var/lib/keelson/network",
		NetNSDir:    "/run/keelson/netns",
	}
}

const (
	maxLinkName = 15
	minMTU      = 576 // RFC 791: what every IPv4 host accepts
	maxMTU      = 65535
)

// Validate reports every setting that cannot work, named as in this struct.
func (c Config) Validate() error {
	var errs []error
	if c.BridgeName == "" || len(c.BridgeName) > maxLinkName {
		errs = append(errs, fmt.Errorf("bridgeName %q: must have 1 to %d characters", c.BridgeName, maxLinkName))
	}
	errs = append(errs, validateRange("clusterCIDR", c.ClusterCIDR), validateRange("serviceCIDR", c.ServiceCIDR))
	if c.ClusterCIDR.IsValid() && c.ServiceCIDR.IsValid() && c.ClusterCIDR.Overlaps(c.ServiceCIDR) {
		errs = append(errs, fmt.Errorf("clusterCIDR %s overlaps serviceCIDR %s: give them separate ranges", c.ClusterCIDR, c.ServiceCIDR))
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxMTU) {
		errs = append(errs, fmt.Errorf("mtu %d: must be 0 (detect) or between %d and %d", c.MTU, minMTU, maxMTU))
	}
	if !filepath.IsAbs(c.StateDir) {
		errs = append(errs, fmt.Errorf("stateDir %q: must be an absolute path", c.StateDir))
	}
	if !filepath.IsAbs(c.NetNSDir) {
		errs = append(errs, fmt.Errorf("netNSDir %q: must be an absolute path", c.NetNSDir))
	}
	return errors.Join(errs...)
}

func validateRange(field string, p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return fmt.Errorf("%s: required, for example 10.244.0.0/16", field)
	case !p.Addr().Is4():
		return fmt.Errorf("%s %s: must be an IPv4 range", field, p)
	case p != p.Masked():
		return fmt.Errorf("%s %s: has bits beyond its mask, did you mean %s?", field, p, p.Masked())
	}
	return nil
}
