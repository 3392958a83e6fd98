package model

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// builder makes the table of one family.
type builder struct {
	t      *Tracker
	family Family
	table  Table
}

// chain returns the name of the chain that accepts what any of sides allows.
func (b *builder) chain(kind string, sides []*side) string {
	var rules []Rule
	for _, s := range sides {
		for i := range s.rules {
			for _, r := range b.rules(&s.rules[i]) {
				if !slices.Contains(rules, r) {
					rules = append(rules, r)
				}
			}
		}
	}
	parts := make([]string, 0, len(rules))
	for _, r := range rules {
		parts = append(parts, fmt.Sprint(r))
	}
	chain := name(kind, parts...)
	b.table.Chains[chain] = rules
	return chain
}

// rules returns one for each combination of a kind of peers and a port.
func (b *builder) rules(r *rule) []Rule {
	var peers []string
	if r.anyone {
		peers = append(peers, "")
	}
	if r.pods != nil {
		peers = append(peers, b.addresses(r.pods.key))
	}
	if set, ok := b.ranges(r.ranges); ok {
		peers = append(peers, set)
	}
	var rules []Rule
	for _, from := range peers {
		if len(r.ports) == 0 {
			rules = append(rules, Rule{Peers: from})
		}
		for _, p := range r.ports {
			one := Rule{Peers: from, Protocol: p.protocol, First: p.first, Last: p.last}
			if p.name != "" {
				one.Targets = b.endpoints(p.name, p.protocol)
			}
			rules = append(rules, one)
		}
	}
	return rules
}

// addresses adds the set of a rule's Pods.
func (b *builder) addresses(key string) string {
	if _, ok := b.table.Sets[key]; ok {
		return key
	}
	set := Set{Addresses: map[netip.Addr]bool{}}
	for pod := range b.t.members[key].pods {
		for _, ip := range b.t.pods[pod].IPs {
			if FamilyOf(ip) == b.family {
				set.Addresses[ip] = true
			}
		}
	}
	b.table.Sets[key] = set
	return key
}

// ranges adds the set of those of the family; false without one.
func (b *builder) ranges(all []netip.Prefix) (string, bool) {
	var own []netip.Prefix
	var parts []string
	for _, p := range all {
		if FamilyOf(p.Addr()) == b.family {
			own = append(own, p)
			parts = append(parts, p.String())
		}
	}
	if len(own) == 0 {
		return "", false
	}
	key := name("r", parts...)
	b.table.Sets[key] = Set{Ranges: own}
	return key, true
}

// endpoints adds the set of all Pods that have a port of that name. The rule's peers,
// and the chain's own Pods, narrow it.
func (b *builder) endpoints(portName string, protocol corev1.Protocol) string {
	key := name("t", portName, string(protocol))
	if _, ok := b.table.Sets[key]; ok {
		return key
	}
	set := Set{Endpoints: map[netip.AddrPort]bool{}}
	for _, pod := range b.t.pods {
		for _, p := range pod.Ports {
			if p.Name != portName || p.Protocol != protocol {
				continue
			}
			for _, ip := range pod.IPs {
				if FamilyOf(ip) == b.family {
					set.Endpoints[netip.AddrPortFrom(ip, p.Number)] = true
				}
			}
		}
	}
	b.table.Sets[key] = set
	return key
}
