package conntrack

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Clean deletes the stale connections of one family in this network namespace and
// returns how many.
func Clean(family model.Family, wanted *Wanted) (int, error) {
	number := netlink.InetFamily(unix.AF_INET)
	if family == model.IPv6 {
		number = unix.AF_INET6
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, number, staleFilter{wanted})
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
