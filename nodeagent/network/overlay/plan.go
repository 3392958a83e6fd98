package overlay

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// Problem says why the Pods of a node, or some of them, cannot be reached.
type Problem struct {
	Node, Message string
}

// entry is one thing in the kernel; exactly one of its fields is set.
type entry struct {
	route      netlinkx.Route
	neighbour  neighbour
	forwarding netlinkx.Forwarding
}

// neighbour is netlinkx.Neighbour for comparison.
type neighbour struct {
	link int
	ip   netip.Addr
	mac  string
}

type entries map[entry]bool

// key is what the kernel keeps one entry for: setting it replaces another of the key.
// A route on another link is not replaced: IPv6 refuses a gateway that the old route
// leads to elsewhere.
func (e entry) key() entry {
	return entry{
		route:      netlinkx.Route{Dst: e.route.Dst, Link: e.route.Link},
		neighbour:  neighbour{link: e.neighbour.link, ip: e.neighbour.ip},
		forwarding: netlinkx.Forwarding{Link: e.forwarding.Link, MAC: e.forwarding.MAC},
	}
}

// computeEntries returns what leads to all nodes but self, and who is left out. Of two
// nodes with one range the first by name has it.
func computeEntries(cfg Config, self Node, d device, nodes []Node) (entries, []Problem) {
	want, taken := entries{}, newClaims()
	var problems []Problem
	for _, p := range self.Ranges {
		taken.claim(p, self.Name)
	}
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	for _, n := range nodes {
		if n.Name == self.Name || len(n.Ranges) == 0 || len(n.IPs) == 0 {
			continue // ourselves, or a node that is not there yet
		}
		report := func(format string, args ...any) {
			problems = append(problems, Problem{Node: n.Name, Message: fmt.Sprintf(format, args...)})
		}
		if reason := judgeNode(cfg, self, n); reason != "" {
			report("%s", reason)
			continue
		}
		for _, p := range n.Ranges {
			if reason := judgeRange(cfg, p); reason != "" {
				report("%s", reason)
			} else if other := taken.claim(p, n.Name); other != "" {
				report("its Pod range %s overlaps one of node %s", p, other)
			} else if reason := want.lead(cfg, self, d, n, p); reason != "" {
				report("%s", reason)
			}
		}
	}
	return want, problems
}

// judgeNode says what is wrong with a node as a whole.
func judgeNode(cfg Config, self, n Node) string {
	ip := ipOf(n.IPs, true)
	switch {
	case !ip.IsValid():
		return "it has no IPv4 address"
	case slices.Contains(self.IPs, ip):
		return fmt.Sprintf("its address %s is this node's: delete the Node that is no more", ip)
	case cfg.Cluster.Contains(ip):
		return fmt.Sprintf("its address %s is inside of the Pods' range %s", ip, cfg.Cluster)
	case !n.Ranges.V4().IsValid():
		return "it has no IPv4 Pod range"
	}
	return ""
}

func judgeRange(cfg Config, p netip.Prefix) string {
	c := cfg.Cluster.Of(p.Addr())
	if !c.IsValid() || p.Bits() < c.Bits() || !c.Contains(p.Addr()) || p.Addr().BitLen()-p.Bits() < 2 {
		return fmt.Sprintf("its Pod range %s is no part of the cluster's (%s)", p, cfg.Cluster)
	}
	return ""
}

// lead adds what leads to one range of a node, or says why nothing does.
func (want entries) lead(cfg Config, self Node, d device, n Node, p netip.Prefix) string {
	own := self.Ranges.Of(p.Addr())
	if !own.IsValid() {
		return "" // our Pods have no addresses of that family
	}
	r := netlinkx.Route{Dst: p, Link: d.index, Src: gateway(own), Protocol: RouteProtocol}
	if cfg.Mode == HostGW {
		r.Via = ipOf(n.IPs, p.Addr().Is4())
		if !r.Via.IsValid() {
			return fmt.Sprintf("it has no address that leads to its Pod range %s: --overlay=host-gw needs one of each family", p)
		}
		if !slices.ContainsFunc(d.prefixes, func(on netip.Prefix) bool { return on.Contains(r.Via) }) {
			return fmt.Sprintf("its address %s is not on this node's link, which --overlay=host-gw needs: use --overlay=vxlan", r.Via)
		}
		want[entry{route: r}] = true
		return ""
	}
	mac := hardwareAddress(n.Ranges.V4())
	r.Via, r.OnLink = gateway(p), true
	want[entry{forwarding: netlinkx.Forwarding{Link: d.index, MAC: mac, To: ipOf(n.IPs, true)}}] = true
	want[entry{neighbour: neighbour{d.index, r.Via, mac}}] = true
	want[entry{route: r}] = true
	return ""
}

// diff returns what to set and what to remove, in the order in which it is safe: a
// route goes before what it needs goes, and comes after that has come. What a new
// entry replaces is not removed before, so that nobody loses his way in between.
func diff(have, want entries) (set, gone []entry) {
	replacing := entries{}
	for e := range want {
		if !have[e] {
			set = append(set, e)
			replacing[e.key()] = true
		}
	}
	for e := range have {
		if !want[e] && !replacing[e.key()] {
			gone = append(gone, e)
		}
	}
	slices.SortFunc(set, entry.compare)
	slices.SortFunc(gone, func(a, b entry) int { return b.compare(a) })
	return set, gone
}

func (e entry) rank() int {
	switch {
	case e.forwarding.MAC != "":
		return 0
	case e.neighbour.ip.IsValid():
		return 1
	}
	return 2
}

func (e entry) compare(o entry) int {
	return cmp.Or(
		cmp.Compare(e.rank(), o.rank()),
		cmp.Compare(e.forwarding.MAC, o.forwarding.MAC), e.forwarding.To.Compare(o.forwarding.To),
		e.neighbour.ip.Compare(o.neighbour.ip),
		e.route.Dst.Addr().Compare(o.route.Dst.Addr()), cmp.Compare(e.route.Dst.Bits(), o.route.Dst.Bits()),
	)
}

// claims tells who has a range, or a part of it, or one around it, without comparing
// all with all.
type claims struct {
	owners map[netip.Prefix]string
	// around has an owner for each range that contains one of owners.
	around map[netip.Prefix]string
}

func newClaims() claims {
	return claims{owners: map[netip.Prefix]string{}, around: map[netip.Prefix]string{}}
}

// claim gives p to name unless it overlaps another's range, whose owner it returns.
func (c claims) claim(p netip.Prefix, name string) (other string) {
	if other, ok := c.around[p]; ok {
		return other
	}
	for bits := p.Bits(); bits >= 0; bits-- {
		if other, ok := c.owners[netip.PrefixFrom(p.Addr(), bits).Masked()]; ok {
			return other
		}
	}
	c.owners[p] = name
	for bits := p.Bits() - 1; bits >= 0; bits-- {
		c.around[netip.PrefixFrom(p.Addr(), bits).Masked()] = name
	}
	return ""
}
