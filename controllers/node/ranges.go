package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// maxRanges bounds how many ranges one cluster range is divided into, which is also
// how long a search may take. For IPv6 it is upstream's limit.
const maxRanges = 22

// planRanges returns a range for each of the cluster's, in their order, or an error
// when one of them has none left.
func planRanges(cluster ranges.List, maskSize4, maskSize6 int, used []netip.Prefix) ([]netip.Prefix, error) {
	var planned []netip.Prefix
	var errs []error
	for _, c := range cluster {
		size := maskSize6
		if c.Addr().Is4() {
			size = maskSize4
		}
		p, err := planRange(c, size, used)
		planned, errs = append(planned, p), append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return planned, nil
}

// planRange returns the first range of maskSize in cluster that overlaps none of
// used.
func planRange(cluster netip.Prefix, maskSize int, used []netip.Prefix) (netip.Prefix, error) {
	cluster = cluster.Masked()
	if !cluster.IsValid() || maskSize < cluster.Bits() || maskSize > cluster.Addr().BitLen() || maskSize-cluster.Bits() > maxRanges {
		return netip.Prefix{}, fmt.Errorf("cannot divide %s into ranges of /%d", cluster, maskSize)
	}
	taken := takenRanges(cluster, maskSize, used)
	count := uint64(1) << (maskSize - cluster.Bits())
	for i := range count {
		if !taken[i] {
			return nthRange(cluster, maskSize, i), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all %d ranges of /%d in %s are in use: make --cluster-cidr larger or --node-cidr-mask-size longer", count, maskSize, cluster)
}

// takenRanges numbers the ranges of cluster and returns those that overlap used.
func takenRanges(cluster netip.Prefix, maskSize int, used []netip.Prefix) map[uint64]bool {
	taken := map[uint64]bool{}
	for _, prefix := range used {
		if !prefix.Overlaps(cluster) {
			continue
		}
		prefix = prefix.Masked()
		first, last := uint64(0), uint64(1)<<(maskSize-cluster.Bits())-1
		if prefix.Bits() > cluster.Bits() {
			first = numberOf(cluster, maskSize, prefix.Addr())
			last = first
			if prefix.Bits() < maskSize {
				last += uint64(1)<<(maskSize-prefix.Bits()) - 1
			}
		}
		for i := first; i <= last; i++ {
			taken[i] = true
		}
	}
	return taken
}

// nthRange is number i of the ranges of maskSize in cluster.
func nthRange(cluster netip.Prefix, maskSize int, i uint64) netip.Prefix {
	raw := cluster.Addr().As16()
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	shift := cluster.Addr().BitLen() - maskSize
	if shift >= 64 {
		high += i << (shift - 64)
	} else {
		var carry uint64
		low, carry = bits.Add64(low, i<<shift, 0)
		high += i>>(64-shift) + carry
	}
	binary.BigEndian.PutUint64(raw[:8], high)
	binary.BigEndian.PutUint64(raw[8:], low)
	addr := netip.AddrFrom16(raw)
	if cluster.Addr().Is4() {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, maskSize)
}

// numberOf is the number of the range of maskSize in cluster that addr belongs to.
func numberOf(cluster netip.Prefix, maskSize int, addr netip.Addr) uint64 {
	raw := addr.As16()
	high, low := binary.BigEndian.Uint64(raw[:8]), binary.BigEndian.Uint64(raw[8:])
	number := low
	if shift := addr.BitLen() - maskSize; shift >= 64 {
		number = high >> (shift - 64)
	} else if shift > 0 {
		number = low>>shift | high<<(64-shift)
	}
	return number & (uint64(1)<<(maskSize-cluster.Bits()) - 1)
}

// rangesOf collects the ranges of a Node; what cannot be parsed takes nothing.
func rangesOf(node *keelsonv1.Node) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...) {
		if prefix, err := netip.ParsePrefix(text); err == nil && !slices.Contains(all, prefix.Masked()) {
			all = append(all, prefix.Masked())
		}
	}
	return all
}

// usedRanges collects what Nodes have.
func usedRanges(nodes []keelsonv1.Node) []netip.Prefix {
	var used []netip.Prefix
	for i := range nodes {
		used = append(used, rangesOf(&nodes[i])...)
	}
	return used
}

// judgeRanges says what is wrong with ranges that a Node was given by somebody else;
// nil when they can be used.
func judgeRanges(cluster ranges.List, node *keelsonv1.Node, nodes []keelsonv1.Node) error {
	var errs []error
	for _, own := range rangesOf(node) {
		c := cluster.Of(own.Addr())
		if !c.IsValid() || own.Bits() < c.Bits() || !c.Contains(own.Addr()) {
			errs = append(errs, fmt.Errorf("%s is outside of --cluster-cidr %s", own, cluster))
		}
		for i := range nodes {
			if nodes[i].Name != node.Name && slices.ContainsFunc(rangesOf(&nodes[i]), own.Overlaps) {
				errs = append(errs, fmt.Errorf("%s overlaps a range of node %s", own, nodes[i].Name))
			}
		}
	}
	return errors.Join(errs...)
}
