// Package svcranges describes the two ranges that Services draw from: cluster
// addresses (--service-cidr) and node ports (--node-port-range).
//
// It parses and answers questions about ranges and nothing else: it holds no
// allocation state, so admission (on every replica) and the service controller (on
// the leader) can share it. There is nothing to recover after a crash.
package svcranges

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

const (
	// DefaultServiceCIDR is the range of cluster addresses when nothing else is said.
	DefaultServiceCIDR = "10.254.0.0/16"
	// DefaultNodePortRange is the range of node ports when nothing else is said.
	DefaultNodePortRange = "30000-32767"

	// maxPrefixBits leaves room for the tenth address, which the cluster DNS uses.
	maxPrefixBits = 28
	// minPrefixBits is upstream's limit for IPv4 (20 bits of hosts).
	minPrefixBits = 12

	dnsOffset = 10
)

// AddressRange is an IPv4 range of cluster addresses. The zero value contains
// nothing.
type AddressRange struct {
	prefix netip.Prefix
}

// ParseServiceCIDR reads a range such as 10.254.0.0/16.
func ParseServiceCIDR(cidr string) (AddressRange, error) {
	prefix, err := netip.ParsePrefix(cidr)
	if err != nil {
		return AddressRange{}, fmt.Errorf("%q is not a CIDR such as %s: %w", cidr, DefaultServiceCIDR, err)
	}
	if !prefix.Addr().Is4() {
		return AddressRange{}, fmt.Errorf("%q is not an IPv4 CIDR: Services are single-stack IPv4", cidr)
	}
	if prefix.Masked() != prefix {
		return AddressRange{}, fmt.Errorf("%q has bits set beyond its mask: did you mean %s?", cidr, prefix.Masked())
	}
	if prefix.Bits() < minPrefixBits || prefix.Bits() > maxPrefixBits {
		return AddressRange{}, fmt.Errorf("%q has the wrong size: the prefix length must be between /%d and /%d", cidr, minPrefixBits, maxPrefixBits)
	}
	return AddressRange{prefix: prefix}, nil
}

// String returns the range in CIDR form.
func (r AddressRange) String() string { return r.prefix.String() }

// Size returns how many addresses can be given to Services: the network and the
// broadcast address are left out, as upstream does.
func (r AddressRange) Size() int {
	if !r.prefix.IsValid() {
		return 0
	}
	return 1<<(32-r.prefix.Bits()) - 2
}

// At returns the address with the given offset, from 1 to Size. Any other offset is
// a programming error and yields an invalid address.
func (r AddressRange) At(offset int) netip.Addr {
	if offset < 1 || offset > r.Size() {
		return netip.Addr{}
	}
	base := r.prefix.Addr().As4()
	var out [4]byte
	binary.BigEndian.PutUint32(out[:], binary.BigEndian.Uint32(base[:])+uint32(offset))
	return netip.AddrFrom4(out)
}

// Contains says whether a Service may have addr.
func (r AddressRange) Contains(addr netip.Addr) bool {
	if !r.prefix.IsValid() || !r.prefix.Contains(addr) {
		return false
	}
	return addr != r.prefix.Addr() && addr.Prev() != r.At(r.Size())
}

// KubernetesAddress is the first address, which belongs to Service default/kubernetes.
func (r AddressRange) KubernetesAddress() netip.Addr { return r.At(1) }

// DNSAddress is the tenth address, which belongs to the cluster DNS.
func (r AddressRange) DNSAddress() netip.Addr { return r.At(dnsOffset) }

// StaticBand returns how many addresses at the low end are handed out on request
// only, so that a fixed address in a manifest seldom meets one given at random
// (KEP-3070). They are used at random only when the rest is full.
func (r AddressRange) StaticBand() int {
	size := 1 << (32 - r.prefix.Bits())
	if !r.prefix.IsValid() || size <= 16 {
		return 0
	}
	return min(max(16, size/16), 256)
}

// PortRange is an inclusive range of node ports. The zero value contains nothing.
type PortRange struct {
	First, Last int32
}

// ParseNodePortRange reads a range such as 30000-32767 (or 30000+2767).
func ParseNodePortRange(ports string) (PortRange, error) {
	parsed, err := utilnet.ParsePortRange(ports)
	if err != nil {
		return PortRange{}, fmt.Errorf("%q is not a port range such as %s: %w", ports, DefaultNodePortRange, err)
	}
	if parsed.Size == 0 || parsed.Base < 1 {
		return PortRange{}, errors.New("the node port range must name at least one port between 1 and 65535, such as " + DefaultNodePortRange)
	}
	return PortRange{First: int32(parsed.Base), Last: int32(parsed.Base + parsed.Size - 1)}, nil
}

// String returns the range as first-last.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Size returns how many ports the range has.
func (r PortRange) Size() int {
	if r.First < 1 || r.Last < r.First {
		return 0
	}
	return int(r.Last-r.First) + 1
}

// Contains says whether a Service may have port.
func (r PortRange) Contains(port int32) bool {
	return r.Size() > 0 && port >= r.First && port <= r.Last
}

// StaticBand returns how many ports at the low end are handed out on request only,
// while others are free (KEP-3668).
func (r PortRange) StaticBand() int {
	if r.Size() <= 16 {
		return 0
	}
	return min(max(16, r.Size()/32), 128)
}
