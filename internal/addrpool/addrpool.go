// Package addrpool reads the pool of addresses for load balancers as the flags of
// Keelson's programs name it: ranges ("198.51.100.10-198.51.100.50") and prefixes
// ("fd00:5::/112"), separated by commas.
//
// It parses and compares and nothing else; who has which address is read from the
// Services (controllers/loadbalancer).
package addrpool

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// Span is a run of addresses of one family, both ends included.
type Span struct{ First, Last netip.Addr }

// Contains says whether addr is in the span.
func (s Span) Contains(addr netip.Addr) bool {
	return addr.BitLen() == s.First.BitLen() && s.First.Compare(addr) <= 0 && addr.Compare(s.Last) <= 0
}

func (s Span) overlaps(other Span) bool { return s.Contains(other.First) || other.Contains(s.First) }

// String writes the span as a flag takes it.
func (s Span) String() string { return s.First.String() + "-" + s.Last.String() }

// Pool is what there is to give away, lowest first; nil means that there is no pool.
type Pool []Span

// Parse reads a flag's entries. Of an IPv4 prefix shorter than /31 the first and the
// last address are left out, of an IPv6 prefix shorter than /127 the first: on a link
// of that size they are not those of one machine. A range is taken as it is. Errors
// name the entry, not the flag.
func Parse(entries []string) (Pool, error) {
	var pool Pool
	var errs []error
	for _, entry := range entries {
		span, err := parseSpan(strings.TrimSpace(entry))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if i := slices.IndexFunc(pool, span.overlaps); i >= 0 {
			errs = append(errs, fmt.Errorf("%q overlaps %s: name every address once", entry, pool[i]))
			continue
		}
		pool = append(pool, span)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	slices.SortFunc(pool, func(a, b Span) int { return a.First.Compare(b.First) })
	return pool, nil
}

func parseSpan(text string) (Span, error) {
	var span Span
	if first, last, isRange := strings.Cut(text, "-"); isRange {
		var errFirst, errLast error
		span.First, errFirst = netip.ParseAddr(strings.TrimSpace(first))
		span.Last, errLast = netip.ParseAddr(strings.TrimSpace(last))
		switch {
		case errFirst != nil || errLast != nil || span.First.Zone() != "" || span.Last.Zone() != "":
			return Span{}, notASpan(text)
		case span.First.BitLen() != span.Last.BitLen() || span.Last.Less(span.First):
			return Span{}, fmt.Errorf("%q does not lead from a lower address to a higher one of the same family", text)
		}
	} else {
		prefix, err := netip.ParsePrefix(text)
		switch {
		case err != nil:
			return Span{}, notASpan(text)
		case prefix != prefix.Masked():
			return Span{}, fmt.Errorf("%q has bits set beyond its prefix: write %s", text, prefix.Masked())
		}
		span = spanOf(prefix)
		if short := prefix.Addr().BitLen() - prefix.Bits(); short > 1 {
			span.First = span.First.Next()
			if prefix.Addr().Is4() {
				span.Last = span.Last.Prev()
			}
		}
	}
	for _, end := range []netip.Addr{span.First, span.Last} {
		if !end.IsGlobalUnicast() || end.Is4In6() {
			return Span{}, fmt.Errorf("%q: %s cannot be the address of a load balancer", text, end)
		}
	}
	return span, nil
}

func notASpan(text string) error {
	return fmt.Errorf("%q is neither a range such as 198.51.100.10-198.51.100.50 nor a prefix such as fd00:5::/112", text)
}

// spanOf returns all addresses of a prefix.
func spanOf(prefix netip.Prefix) Span {
	last := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(last)
	return Span{First: prefix.Masked().Addr(), Last: addr}
}

// Contains says whether addr is in the pool.
func (p Pool) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(s Span) bool { return s.Contains(addr) })
}

// HasFamily says whether the pool has IPv4 addresses, or IPv6 ones.
func (p Pool) HasFamily(is4 bool) bool {
	return slices.ContainsFunc(p, func(s Span) bool { return s.First.Is4() == is4 })
}

// Family yields the addresses of a family, lowest first.
func (p Pool) Family(is4 bool) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, s := range p {
			if s.First.Is4() != is4 {
				continue
			}
			for addr := s.First; s.Contains(addr); addr = addr.Next() {
				if !yield(addr) {
					return
				}
			}
		}
	}
}

// String lists the pool as a flag takes it.
func (p Pool) String() string {
	texts := make([]string, 0, len(p))
	for _, s := range p {
		texts = append(texts, s.String())
	}
	return strings.Join(texts, ",")
}

// CheckApart refuses a pool that shares addresses with ranges that another flag names.
func (p Pool) CheckApart(otherFlag string, ranges []netip.Prefix) error {
	var errs []error
	for _, r := range ranges {
		for _, s := range p {
			if s.overlaps(spanOf(r.Masked())) {
				errs = append(errs, fmt.Errorf("%s overlaps %s %s: choose separate ranges", s, otherFlag, r))
			}
		}
	}
	return errors.Join(errs...)
}
