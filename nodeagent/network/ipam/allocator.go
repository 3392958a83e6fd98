package ipam

import (
	"fmt"
	"net/netip"

	"github.com/keelson-dev/keelson/internal/ranges"
)

// allocator hands out addresses of one range in rising order, beginning after the
// last one it gave and wrapping around, so that an address that was just freed is
// the last to be given again. It is pure: the same calls give the same addresses.
type allocator struct {
	first, last netip.Addr
	next        netip.Addr
	used        map[netip.Addr]bool
}

// newAllocator serves prefix without its network, gateway (first) and broadcast
// address.
func newAllocator(prefix netip.Prefix) (*allocator, error) {
	if !prefix.Addr().Is4() || prefix.Bits() > 30 || prefix != prefix.Masked() {
		return nil, fmt.Errorf("pod range %s: must be an IPv4 range of /30 or larger without bits beyond its mask", prefix)
	}
	first := prefix.Addr().Next().Next()
	return &allocator{first: first, last: lastAddr(prefix).Prev(), next: first, used: map[netip.Addr]bool{}}, nil
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func (a *allocator) contains(ip netip.Addr) bool {
	return ip.Is4() && a.first.Compare(ip) <= 0 && ip.Compare(a.last) <= 0
}

// take returns the next free address; false when all are used.
func (a *allocator) take() (netip.Addr, bool) {
	ip := a.next
	for {
		if !a.used[ip] {
			a.reserve(ip)
			return ip, true
		}
		if ip = a.after(ip); ip == a.next {
			return netip.Addr{}, false
		}
	}
}

// reserve marks an address used and goes on after it.
func (a *allocator) reserve(ip netip.Addr) {
	a.used[ip] = true
	a.next = a.after(ip)
}

func (a *allocator) free(ip netip.Addr) { delete(a.used, ip) }

func (a *allocator) after(ip netip.Addr) netip.Addr {
	if ip == a.last {
		return a.first
	}
	return ip.Next()
}

func (a *allocator) size() int {
	first, last := a.first.As4(), a.last.As4()
	return int(asUint(last)-asUint(first)) + 1
}

func asUint(b [4]byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// twin returns the address of the IPv6 range that is where ip is in the IPv4 range;
// invalid without an IPv6 range.
func twin(own ranges.List, ip netip.Addr) netip.Addr {
	v6 := own.V6()
	if !v6.IsValid() {
		return netip.Addr{}
	}
	raw := v6.Addr().As16()
	offset := asUint(ip.As4()) - asUint(own.V4().Addr().As4())
	for i := range 4 {
		raw[15-i] |= byte(offset >> (8 * i))
	}
	return netip.AddrFrom16(raw)
}
