package model

import (
	"fmt"
	"net/netip"
	"slices"
)

// NodeFacts is what the proxy knows of the node it runs on. The zero PodCIDR means
// that it is not known yet. The fields ending in 6 are the same for IPv6; without
// ClusterCIDR6 the proxy leaves IPv6 alone, without ServiceCIDR6 it has Pods but no
// Services there.
type NodeFacts struct {
	// ClusterCIDR is the range of all Pods of the cluster. Traffic to a ClusterIP from
	// outside of it is masqueraded.
	ClusterCIDR, ClusterCIDR6 netip.Prefix
	// PodCIDR is this node's part of ClusterCIDR.
	PodCIDR, PodCIDR6 netip.Prefix
	// ServiceCIDR is the range of ClusterIPs. What is sent to an address of it that no
	// Service has is rejected on the node.
	ServiceCIDR, ServiceCIDR6 netip.Prefix
	// NodeIPs are this node's addresses, of both families.
	NodeIPs []netip.Addr
}

// HasIPv6 reports whether the node's Pods have IPv6 addresses.
func (f NodeFacts) HasIPv6() bool { return f.ClusterCIDR6.IsValid() }

// Validate returns an error that names the field when the facts cannot be used.
func (f NodeFacts) Validate() error {
	four := ranges{f.ClusterCIDR, f.PodCIDR, f.ServiceCIDR}
	if err := four.validate("", "IPv4", netip.Addr.Is4); err != nil {
		return err
	}
	if !f.HasIPv6() && !f.ServiceCIDR6.IsValid() && !f.PodCIDR6.IsValid() {
		return nil
	}
	six := ranges{f.ClusterCIDR6, f.PodCIDR6, f.ServiceCIDR6}
	return six.validate("6", "IPv6", func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() })
}

// ranges are those of one family.
type ranges struct {
	cluster, pods, services netip.Prefix
}

func (r ranges) validate(suffix, family string, ofFamily func(netip.Addr) bool) error {
	for _, p := range []struct {
		field    string
		prefix   netip.Prefix
		required bool
	}{
		{"ClusterCIDR" + suffix, r.cluster, true},
		{"ServiceCIDR" + suffix, r.services, suffix == ""},
		{"PodCIDR" + suffix, r.pods, false},
	} {
		switch {
		case !p.prefix.IsValid() && !p.required:
		case !p.prefix.IsValid():
			return fmt.Errorf("%s is required: give an %s range in CIDR form", p.field, family)
		case !ofFamily(p.prefix.Addr()):
			return fmt.Errorf("%s %s is not an %s range", p.field, p.prefix, family)
		case p.prefix != p.prefix.Masked():
			return fmt.Errorf("%s %s has bits set beyond its prefix: write %s", p.field, p.prefix, p.prefix.Masked())
		}
	}
	if r.cluster.Overlaps(r.services) {
		return fmt.Errorf("ServiceCIDR%s %s overlaps ClusterCIDR%s %s: choose separate ranges", suffix, r.services, suffix, r.cluster)
	}
	if r.pods.IsValid() && (r.pods.Bits() < r.cluster.Bits() || !r.cluster.Contains(r.pods.Addr())) {
		return fmt.Errorf("PodCIDR%s %s is not part of ClusterCIDR%s %s", suffix, r.pods, suffix, r.cluster)
	}
	return nil
}

// Equal reports whether two facts lead to the same rules.
func (f NodeFacts) Equal(o NodeFacts) bool {
	return f.ClusterCIDR == o.ClusterCIDR && f.PodCIDR == o.PodCIDR && f.ServiceCIDR == o.ServiceCIDR &&
		f.ClusterCIDR6 == o.ClusterCIDR6 && f.PodCIDR6 == o.PodCIDR6 && f.ServiceCIDR6 == o.ServiceCIDR6 &&
		slices.Equal(f.NodeIPs, o.NodeIPs)
}
