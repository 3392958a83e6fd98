package node

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// planRange returns the first range of maskSize in cluster that overlaps none of
// used.
func planRange(cluster netip.Prefix, maskSize int, used []netip.Prefix) (netip.Prefix, error) {
	cluster = cluster.Masked()
	if !cluster.Addr().Is4() || maskSize < cluster.Bits() || maskSize > 32 {
		return netip.Prefix{}, fmt.Errorf("cannot divide %s into ranges of /%d", cluster, maskSize)
	}
	taken := takenRanges(cluster, maskSize, used)
	base := toInt(cluster.Addr())
	count := uint64(1) << (maskSize - cluster.Bits())
	for i := range count {
		if !taken[i] {
			return netip.PrefixFrom(toAddr(base+uint32(i<<(32-maskSize))), maskSize), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all %d ranges of /%d in %s are in use: make --cluster-cidr larger or --node-cidr-mask-size longer", count, maskSize, cluster)
}

// takenRanges numbers the ranges of cluster and returns those that overlap used.
func takenRanges(cluster netip.Prefix, maskSize int, used []netip.Prefix) map[uint64]bool {
	taken := map[uint64]bool{}
	base := toInt(cluster.Addr())
	for _, prefix := range used {
		if !prefix.Addr().Is4() || !prefix.Overlaps(cluster) {
			continue
		}
		prefix = prefix.Masked()
		first, last := uint64(0), uint64(1)<<(maskSize-cluster.Bits())-1
		if prefix.Bits() > cluster.Bits() {
			offset := uint64(toInt(prefix.Addr()) - base)
			size := uint64(1) << (32 - prefix.Bits())
			first, last = offset>>(32-maskSize), (offset+size-1)>>(32-maskSize)
		}
		for i := first; i <= last; i++ {
			taken[i] = true
		}
	}
	return taken
}

// usedRanges collects what Nodes have; what cannot be parsed takes nothing.
func usedRanges(nodes []keelsonv1.Node) []netip.Prefix {
	var used []netip.Prefix
	for i := range nodes {
		spec := &nodes[i].Spec
		for _, text := range append([]string{spec.PodCIDR}, spec.PodCIDRs...) {
			if prefix, err := netip.ParsePrefix(text); err == nil {
				used = append(used, prefix)
			}
		}
	}
	return used
}

func toInt(addr netip.Addr) uint32 {
	bytes := addr.As4()
	return binary.BigEndian.Uint32(bytes[:])
}

func toAddr(value uint32) netip.Addr {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], value)
	return netip.AddrFrom4(bytes)
}
