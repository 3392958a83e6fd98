// Package ranges reads the address ranges of a cluster as the flags of its programs
// name them: one range, or two of different families ("10.244.0.0/16,fd00:10:244::/56").
//
// It parses and compares and nothing else; it knows neither who uses a range nor
// what is free in it.
package ranges

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// List is one range, or one of each family. The first is the primary one: its
// family is that of the first address of everything that has two.
type List []netip.Prefix

// Parse reads the value of a flag: one range, or two of different families in either
// order, separated by a comma. One of IPv4 is required. Errors name the flag.
func Parse(flag, text string) (List, error) {
	list, err := ParseList(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return list, nil
}

// ParseList is Parse for a caller that names the flag itself.
func ParseList(text string) (List, error) {
	var list List
	for part := range strings.SplitSeq(text, ",") {
		p, err := parseOne(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(list) > 2 || len(list) == 2 && list[0].Addr().Is4() == list[1].Addr().Is4() {
		return nil, fmt.Errorf("%q has two ranges of one family: give one, or one of IPv4 and one of IPv6", text)
	}
	if !list.V4().IsValid() {
		return nil, fmt.Errorf("%q has no IPv4 range, which every cluster needs: add one, such as 10.244.0.0/16,%s", text, text)
	}
	return list, nil
}

func parseOne(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("%q is not an address range, such as 10.244.0.0/16", text)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("%q is an IPv4 range written as IPv6: write the IPv4 range", text)
	case p != p.Masked():
		return p, fmt.Errorf("%q has bits set beyond its prefix: write %s", text, p.Masked())
	}
	return p, nil
}

// MustParse is Parse for constants and tests.
func MustParse(text string) List {
	list, err := Parse("range", text)
	if err != nil {
		panic(err)
	}
	return list
}

// V4 returns the IPv4 range, invalid if there is none.
func (l List) V4() netip.Prefix { return l.family(netip.IPv4Unspecified()) }

// V6 returns the IPv6 range, invalid if there is none.
func (l List) V6() netip.Prefix { return l.family(netip.IPv6Unspecified()) }

// Of returns the range of the family of addr, invalid if there is none.
func (l List) Of(addr netip.Addr) netip.Prefix { return l.family(addr) }

func (l List) family(of netip.Addr) netip.Prefix {
	i := slices.IndexFunc(l, func(p netip.Prefix) bool { return p.Addr().Is4() == of.Is4() })
	if i < 0 {
		return netip.Prefix{}
	}
	return l[i]
}

// Contains says whether addr is in one of the ranges.
func (l List) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(l, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Strings returns the ranges, primary first.
func (l List) Strings() []string {
	texts := make([]string, 0, len(l))
	for _, p := range l {
		texts = append(texts, p.String())
	}
	return texts
}

// String writes the list as the flag takes it.
func (l List) String() string { return strings.Join(l.Strings(), ",") }

// CheckPair refuses ranges of Services and Pods that do not go together: they must
// have the same families, and not overlap. A nil list, whose own error was reported
// already, goes with anything.
func CheckPair(serviceFlag string, services List, clusterFlag string, pods List) error {
	if services == nil || pods == nil {
		return nil
	}
	var errs []error
	for _, s := range services {
		p := pods.Of(s.Addr())
		switch {
		case !p.IsValid():
			errs = append(errs, fmt.Errorf("%s: %s is of a family that %s (%s) lacks: Pods could not reach such Services", serviceFlag, s, clusterFlag, pods))
		case p.Overlaps(s):
			errs = append(errs, fmt.Errorf("%s: %s overlaps %s %s: choose separate ranges", serviceFlag, s, clusterFlag, p))
		}
	}
	for _, p := range pods {
		if !services.Of(p.Addr()).IsValid() {
			errs = append(errs, fmt.Errorf("%s: %s lacks a range of the family of %s %s: add one, such as %s,fd00:10:254::/112", serviceFlag, services, clusterFlag, p, services))
		}
	}
	return errors.Join(errs...)
}
