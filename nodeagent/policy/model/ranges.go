package model

import (
	"fmt"
	"net/netip"
	"slices"
)

// subtract returns the ranges that make up cidr without except.
func subtract(cidr string, except []string) ([]netip.Prefix, error) {
	whole, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("ipBlock.cidr: %w", err)
	}
	rest := []netip.Prefix{whole.Masked()}
	for _, text := range except {
		hole, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("ipBlock.except: %w", err)
		}
		var next []netip.Prefix
		for _, p := range rest {
			next = append(next, cut(p, hole.Masked())...)
		}
		rest = next
	}
	return rest, nil
}

// cut returns the ranges of p that are not in hole: halves of p, and the halves of the
// half that holds the hole, and so on.
func cut(p, hole netip.Prefix) []netip.Prefix {
	if !p.Overlaps(hole) {
		return []netip.Prefix{p}
	}
	if hole.Bits() <= p.Bits() {
		return nil
	}
	low, high := halves(p)
	return append(cut(low, hole), cut(high, hole)...)
}

func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits() + 1
	bytes := p.Addr().AsSlice()
	bytes[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	upper, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(p.Addr(), bits), netip.PrefixFrom(upper, bits)
}

// union sorts ranges and leaves out those that lie in others.
func union(all []netip.Prefix) []netip.Prefix {
	slices.SortFunc(all, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var kept []netip.Prefix
	for _, p := range all {
		if n := len(kept); n > 0 && kept[n-1].Overlaps(p) {
			continue // the earlier one is the larger one
		}
		kept = append(kept, p)
	}
	return kept
}
