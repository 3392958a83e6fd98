package render

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// match builds the left part of a rule.
type match []string

func (m match) with(words ...string) match { return append(m[:len(m):len(m)], words...) }

func (m match) from(p netip.Prefix) match    { return m.with("-s", p.String()) }
func (m match) notFrom(p netip.Prefix) match { return m.with("!", "-s", p.String()) }
func (m match) to(p netip.Prefix) match      { return m.with("-d", p.String()) }
func (m match) notTo(p netip.Prefix) match   { return m.with("!", "-d", p.String()) }

func (m match) proto(p model.Protocol) match { return m.with("-p", string(p)) }

func (m match) dport(p model.Protocol, port uint16) match {
	return m.with("-p", string(p), "-m", string(p), "--dport", strconv.Itoa(int(port)))
}

func (m match) fromLocal() match {
	return m.with("-m", "addrtype", "--src-type", "LOCAL")
}
func (m match) toLocal() match  { return m.with("-m", "addrtype", "--dst-type", "LOCAL") }
func (m match) marked() match   { return m.with("-m", "mark", "--mark", MasqueradeMark) }
func (m match) unmarked() match { return m.with("-m", "mark", "!", "--mark", MasqueradeMark) }
func (m match) invalid() match  { return m.with("-m", "conntrack", "--ctstate", "INVALID") }
func (m match) untracked() match {
	return m.with("-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED,DNAT")
}
func (m match) opening() match { return m.with("-m", "conntrack", "--ctstate", "NEW") }
func (m match) openingOrInvalid() match {
	return m.with("-m", "conntrack", "--ctstate", "NEW,INVALID")
}
func (m match) continuing() match {
	return m.with("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
}

// oneOf matches one in n of what reaches the rule.
func (m match) oneOf(n int) match {
	return m.with("-m", "statistic", "--mode", "random", "--probability", strconv.FormatFloat(1/float64(n), 'f', 10, 64))
}

// remembered matches clients that used the endpoint of that list within the time.
func (m match) remembered(list string, seconds int32) match {
	return m.with("-m", "recent", "--name", list, "--rcheck", "--seconds", strconv.Itoa(int(seconds)), "--reap")
}

// remember puts the client on the list.
func (m match) remember(list string) match { return m.with("-m", "recent", "--name", list, "--set") }

// unreachable matches what says that a packet could not be delivered.
func (m match) unreachable(f model.Family) match {
	if f == model.IPv6 {
		return m.with("-p", "ipv6-icmp", "-m", "icmp6", "--icmpv6-type", "1")
	}
	return m.with("-p", "icmp", "-m", "icmp", "--icmp-type", "3")
}

// about matches messages about connections to an address that were led elsewhere, of that
// other side, and none of the client's side about answers.
func (m match) about(p model.Protocol, to netip.AddrPort) match {
	return m.with("-m", "conntrack", "--ctstate", "DNAT", "--ctdir", "REPLY", "--ctproto", string(p),
		"--ctorigdst", to.Addr().String(), "--ctorigdstport", strconv.Itoa(int(to.Port())))
}

// ledTo matches what belongs to connections that were led to an endpoint.
func (m match) ledTo(endpoint netip.AddrPort) match {
	return m.with("-m", "conntrack", "--ctreplsrc", endpoint.Addr().String(), "--ctreplsrcport", strconv.Itoa(int(endpoint.Port())))
}

// noteOn puts everybody on a list, which is then one entry: its time.
func (m match) noteOn(list string, f model.Family) match {
	return m.with("-m", "recent", "--name", list, "--set", "--mask", everybody(f))
}

// notOn matches while noteOn has not put anything on the list for that many seconds.
func (m match) notOn(list string, seconds int, f model.Family) match {
	return m.with("-m", "recent", "--name", list, "!", "--rcheck", "--seconds", strconv.Itoa(seconds), "--mask", everybody(f))
}

func (m match) then(action, comment string) iptables.Rule {
	return iptables.Rule{Match: strings.Join(m, " "), Action: action, Comment: comment}
}

func (m match) jump(chain, comment string) iptables.Rule { return m.then("-j "+chain, comment) }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
