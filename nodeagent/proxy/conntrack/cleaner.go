package conntrack

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Clean deletes the stale connections of this network namespace and returns how many.
func Clean(wanted *Wanted) (int, error) {
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, staleFilter{wanted})
	if err != nil {
		return int(n), fmt.Errorf("deleting stale UDP connections from conntrack: %w", err)
	}
	return int(n), nil
}

type staleFilter struct {
	wanted *Wanted
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (s staleFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	to, ok := addrPort(flow.Forward.DstIP, flow.Forward.DstPort)
	from, ok2 := addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	return ok && ok2 && s.wanted.Stale(Flow{To: to, From: from})
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port), ok
}
