// Package model computes from NetworkPolicies, Pods and namespaces what a node has to
// enforce for its own Pods: which chain judges an address, which rules a chain has, and
// which addresses the sets hold that those rules name.
//
// It is pure: it reads and writes memory only, and holds nothing that a new process
// could not compute again. A change of a Pod costs one look at each selector; nothing
// else is computed again but the list of chains.
package model

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Family is a family of addresses; each has tables of its own.
type Family int

// The two families.
const (
	IPv4 Family = iota
	IPv6
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Pod is what policies see of a Pod. Pods that have ended, and Pods in their node's
// network, are none.
type Pod struct {
	Name   types.NamespacedName
	UID    types.UID
	Node   string
	Labels map[string]string
	IPs    []netip.Addr
	Ports  []NamedPort
}

// NamedPort is a port of a container that has a name.
type NamedPort struct {
	Name     string
	Protocol corev1.Protocol
	Number   uint16
}

// Table is all that one family of a node needs. Names are hashes of what they stand
// for, so a chain never changes, and a set only in what it holds.
type Table struct {
	Sets   map[string]Set
	Chains map[string][]Rule
	// Ingress and Egress say which chain judges connections to and from an address.
	Ingress, Egress map[netip.Addr]string
}

// Empty reports whether nothing is to be enforced.
func (t Table) Empty() bool { return len(t.Ingress)+len(t.Egress) == 0 }

// Set holds exactly one of three things.
type Set struct {
	// Addresses are those of Pods.
	Addresses map[netip.Addr]bool
	// Ranges are sorted and do not overlap; nil unless the set is one of ranges.
	Ranges []netip.Prefix
	// Endpoints are addresses with a port.
	Endpoints map[netip.AddrPort]bool
}

// Rule accepts a connection that fulfils all that is given. A connection that no rule
// of its chain accepts is refused.
type Rule struct {
	// Peers is the set that must hold the address of the other side: of the client in a
	// chain of Ingress, of the server in one of Egress. Empty for anyone.
	Peers string
	// Protocol is empty for every one; First and Last bound the server's port, both zero
	// for every port.
	Protocol    corev1.Protocol
	First, Last uint16
	// Targets is the set that must hold the server's address and port.
	Targets string
}
