// Package nodes makes several machines of one: each node is a network, a mount and a
// host-name namespace, wired to a bridge of this machine as computers are to a switch.
// It also cuts wires, and takes a node away as a power cut does.
//
// It knows nothing of what runs in a node, and of the API. It touches only what bears
// its names: the bridge and its ports, iptables chains called KEELSON-NODES, routes of
// its protocol, the folder of pins and the cgroups of its nodes. Recovery after a crash:
// nothing is remembered in memory; a node whose making was not finished has no marker,
// and is taken away and made again; every function may be repeated.
package nodes

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Node is one machine made of namespaces.
type Node struct {
	// Name is its host name.
	Name string
	// Address is its own on the network of nodes.
	Address netip.Addr
	// Data is the folder on this machine that holds what outlives its power cuts.
	Data string
	// Boot counts its starts: a running node with another count is started again.
	Boot int
	// Cut says what of its traffic gets lost.
	Cut Cut
}

// Paths inside of every node; Data of the node is behind all but RunDir.
const (
	// RunDir is empty whenever the node starts.
	RunDir = "/run"
	// LogDir and LibDir are the node's own.
	LogDir = "/var/log"
	LibDir = "/var/lib/keelson"
)

// covered are the folders of this machine that no node sees.
var covered = []string{RunDir, LogDir, LibDir}

// Covered returns the folder of this machine that nodes cannot see and that holds path,
// or "": what nodes share with this machine must not be there.
func Covered(path string) string {
	for _, dir := range covered {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			return dir
		}
	}
	return ""
}

// Options say where the nodes of one cluster are.
type Options struct {
	// Dir holds the pins of namespaces, on this machine; it need not outlive a reboot.
	Dir string
	// Network is the range of the nodes' own addresses. The first one is this machine's.
	Network netip.Prefix
	// Network6 is the range of their IPv6 addresses, invalid if they have none. A node's
	// is at the same place in it as the other one is in Network.
	Network6 netip.Prefix
	// CgroupRoot is the cgroup above those of all nodes.
	CgroupRoot string
}

// Machine is this machine with its nodes. Its methods may be called by several
// goroutines.
type Machine struct {
	options Options
	// mu is held while something is made or taken away.
	mu sync.Mutex
}

// New returns the machine without touching it.
func New(o Options) *Machine { return &Machine{options: o} }

// Gateway is this machine's own address on the network of nodes.
func (o Options) Gateway() netip.Addr { return Gateway(o.Network) }

// networks are those of both families, or the one that there is.
func (o Options) networks() []netip.Prefix {
	if o.Network6.IsValid() {
		return []netip.Prefix{o.Network, o.Network6}
	}
	return []netip.Prefix{o.Network}
}

// addresses are those of a node with the IPv4 address a, one in each network.
func (o Options) addresses(a netip.Addr) []netip.Addr {
	if o.Network6.IsValid() {
		return []netip.Addr{a, Second(o.Network, o.Network6, a)}
	}
	return []netip.Addr{a}
}

// Gateway is the first address of a network of nodes, this machine's.
func Gateway(network netip.Prefix) netip.Addr { return network.Masked().Addr().Next() }

// Addresses yields the addresses that nodes may have in a network, lowest first.
func Addresses(network netip.Prefix) func(yield func(netip.Addr) bool) {
	return func(yield func(netip.Addr) bool) {
		last := broadcast(network)
		for a := Gateway(network).Next(); network.Contains(a) && a != last; a = a.Next() {
			if !yield(a) {
				return
			}
		}
	}
}

// Capacity is how many nodes a network has addresses for.
func Capacity(network netip.Prefix) int {
	// Neither the network's own address, nor this machine's, nor the broadcast address.
	return max(0, 1<<(32-network.Bits())-3)
}

func broadcast(network netip.Prefix) netip.Addr {
	b := network.Masked().Addr().As4()
	for i := network.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// Cgroup is the cgroup above those of all Pods of a node.
func (o Options) Cgroup(name string) string { return o.CgroupRoot + "/" + name }

func (m *Machine) dir(name string) string    { return filepath.Join(m.options.Dir, name) }
func (m *Machine) marker(name string) string { return filepath.Join(m.dir(name), "boot") }
func (m *Machine) pin(name, kind string) string {
	return filepath.Join(m.dir(name), kind)
}

// Present lists the nodes that have something on this machine, be it unfinished.
func (m *Machine) Present() ([]string, error) {
	entries, err := os.ReadDir(m.options.Dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the nodes on this machine: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
