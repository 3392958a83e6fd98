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
	"slices"

	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/keelson-dev/keelson/internal/ranges"
)

const (
	// DefaultServiceCIDR is the range of cluster addresses when nothing else is said.
	DefaultServiceCIDR = "10.254.0.0/16"
	// DefaultNodePortRange is the range of node ports when nothing else is said.
	DefaultNodePortRange = "30000-32767"

	// minHostBits leaves room for the tenth address, which the cluster DNS uses.
	minHostBits = 4
	// maxHostBits4 is upstream's limit for IPv4, maxHostBits6 that for IPv6.
	maxHostBits4 = 20
	maxHostBits6 = 64
	// drawnBits6 is how much of an IPv6 range addresses are drawn from, as upstream
	// does: any other address of it can be asked for.
	drawnBits6 = 16

	dnsOffset = 10
)

// AddressRange is a range of cluster addresses of one family. The zero value
// contains nothing.
type AddressRange struct {
	prefix netip.Prefix
}

// AddressRanges are the ranges of a cluster, at most one of each family. The first
// is that of Services which do not ask for a family.
type AddressRanges []AddressRange

// ParseServiceCIDRs reads the value of --service-cidr: one range, or two of different
// families, separated by a comma.
func ParseServiceCIDRs(cidrs string) (AddressRanges, error) {
	list, err := ranges.ParseList(cidrs)
	if err != nil {
		return nil, err
	}
	var all AddressRanges
	for _, prefix := range list {
		r := AddressRange{prefix: prefix}
		least, most := r.bits()-maxHostBits4, r.bits()-minHostBits
		if !r.Is4() {
			least = r.bits() - maxHostBits6
		}
		if prefix.Bits() < least || prefix.Bits() > most {
			return nil, fmt.Errorf("%q has the wrong size: the prefix length must be between /%d and /%d", prefix, least, most)
		}
		all = append(all, r)
	}
	return all, nil
}

// Family returns the range of IPv4 or IPv6, the zero value if there is none.
func (a AddressRanges) Family(is4 bool) AddressRange {
	i := slices.IndexFunc(a, func(r AddressRange) bool { return r.Is4() == is4 })
	if i < 0 {
		return AddressRange{}
	}
	return a[i]
}

// Contains says whether a Service may have addr.
func (a AddressRanges) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(a, func(r AddressRange) bool { return r.Contains(addr) })
}

// ParseServiceCIDR reads one IPv4 range, such as 10.254.0.0/16.
func ParseServiceCIDR(cidr string) (AddressRange, error) {
	all, err := ParseServiceCIDRs(cidr)
	if err != nil {
		return AddressRange{}, err
	}
	if len(all) > 1 {
		return AddressRange{}, fmt.Errorf("%q has two ranges where one is expected", cidr)
	}
	return all[0], nil
}

// Is4 says whether the range is one of IPv4.
func (r AddressRange) Is4() bool { return r.prefix.Addr().Is4() }

// IsValid says whether there is a range.
func (r AddressRange) IsValid() bool { return r.prefix.IsValid() }

func (r AddressRange) bits() int { return r.prefix.Addr().BitLen() }

// String returns the range in CIDR form.
func (r AddressRange) String() string { return r.prefix.String() }

// Size returns how many addresses are given to Services that ask for none. As
// upstream does, the first address is left out, the last one of an IPv4 range too,
// and of an IPv6 range all but the first 65,535.
func (r AddressRange) Size() int {
	if !r.prefix.IsValid() {
		return 0
	}
	host := r.bits() - r.prefix.Bits()
	if r.Is4() {
		return 1<<host - 2
	}
	return 1<<min(host, drawnBits6) - 1
}

// At returns the address with the given offset, from 1 to Size. Any other offset is
// a programming error and yields an invalid address.
func (r AddressRange) At(offset int) netip.Addr {
	if offset < 1 || offset > r.Size() {
		return netip.Addr{}
	}
	raw := r.prefix.Addr().AsSlice()
	low := raw[len(raw)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+uint32(offset))
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

// Contains says whether a Service may have addr.
func (r AddressRange) Contains(addr netip.Addr) bool {
	if !r.prefix.IsValid() || !r.prefix.Contains(addr) || addr == r.prefix.Addr() {
		return false
	}
	return !r.Is4() || addr.Prev() != r.At(r.Size())
}

// KubernetesAddress is the first address, which belongs to Service default/kubernetes.
func (r AddressRange) KubernetesAddress() netip.Addr { return r.At(1) }

// DNSAddress is the tenth address, which belongs to the cluster DNS.
func (r AddressRange) DNSAddress() netip.Addr { return r.At(dnsOffset) }

// StaticBand returns how many addresses at the low end are handed out on request
// only, so that a fixed address in a manifest seldom meets one given at random
// (KEP-3070). They are used at random only when the rest is full.
func (r AddressRange) StaticBand() int {
	if !r.prefix.IsValid() {
		return 0
	}
	host := r.bits() - r.prefix.Bits()
	if !r.Is4() {
		host = min(host, drawnBits6)
	}
	size := 1 << host
	if size <= 16 {
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
