// Package netlinkx is the narrow view of the kernel that the Pod network needs:
// interfaces, addresses, routes and neighbours of one network namespace, and the
// namespaces themselves. Its values are plain, so that a fake can hold them.
//
// Every operation is either idempotent or says ErrNotFound / ErrExists; interrupted
// system calls and dumps are repeated here and nowhere else. The package decides
// nothing and keeps nothing: after a crash there is nothing to recover.
package netlinkx

import (
	"errors"
	"net"
	"net/netip"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

var (
	// ErrNotFound says that the interface, setting or namespace does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists says that an interface of that name is there already.
	ErrExists = errors.New("already exists")
)

// Kernel is the host's network namespace and the named ones beside it.
type Kernel interface {
	Handle
	Namespaces
}

// Handle works in one network namespace.
type Handle interface {
	// Link returns the interface of that name, or ErrNotFound.
	Link(name string) (Link, error)
	Links() ([]Link, error)
	// AddBridge makes an interface that is down, or returns ErrExists.
	AddBridge(bridge Bridge) error
	// AddVeth makes both ends, the peer inside the namespace at PeerNS, both down; or
	// returns ErrExists when either name is taken.
	AddVeth(veth Veth) error
	// DeleteLink removes the interface, its peer and their routes; or ErrNotFound.
	DeleteLink(name string) error
	SetUp(index int) error
	SetMTU(index, mtu int) error
	// Activate makes an interface that is up and has carrier able to send by the time
	// it returns. The kernel does that by itself, but up to a second later, and drops
	// what is sent before.
	Activate(name string) error

	// Addrs lists the addresses of both families of all interfaces, without those that
	// IPv6 gives to every link (fe80::/10).
	Addrs() ([]Addr, error)
	ReplaceAddr(addr Addr) error
	DeleteAddr(addr Addr) error

	// Routes lists the routes of both families of the main table, without those that IPv6
	// gives to every link (fe80::/10, ff00::/8).
	Routes() ([]Route, error)
	ReplaceRoute(route Route) error
	// DeleteRoute succeeds when the route is gone already.
	DeleteRoute(route Route) error

	// SetNeighbour makes a permanent entry.
	SetNeighbour(neighbour Neighbour) error

	// SetSysctl writes a setting below /proc/sys, such as net/ipv4/ip_forward, unless
	// it has the value; ErrNotFound when the kernel has no such setting.
	SetSysctl(name, value string) error

	Tunnels
}

// Namespaces are network namespaces bound to files.
type Namespaces interface {
	// CreateNamespace makes a namespace and binds it to path, whose directory is
	// created. It succeeds when a namespace is bound there already.
	CreateNamespace(path string) error
	// CreateOwnedNamespace is CreateNamespace for one that a new user namespace with the
	// IDs of users owns. One that is bound there already stays, whoever owns it.
	CreateOwnedNamespace(path string, users userns.Range) error
	// DeleteNamespace unbinds the namespace and removes the file; it succeeds when
	// there is none. The namespace lives on while a process is in it.
	DeleteNamespace(path string) error
	// ListNamespaces returns the names in dir, bound or not.
	ListNamespaces(dir string) ([]string, error)
	// InNamespace runs f with a Handle on the namespace at path, or returns
	// ErrNotFound. The Handle is of no use afterwards.
	InNamespace(path string, f func(Handle) error) error
}

// Link is an interface as the kernel reports it.
type Link struct {
	Index int
	Name  string
	Kind  string // "bridge", "veth", "device", ...
	Peer  int    // of a veth: the index of the other end in its own namespace
	MTU   int
	Up    bool // administratively
}

// Bridge is a bridge to make.
type Bridge struct {
	Name string
	MTU  int
	MAC  net.HardwareAddr
}

// Veth is a pair to make.
type Veth struct {
	Name     string
	MAC      net.HardwareAddr
	PeerName string
	PeerMAC  net.HardwareAddr
	PeerNS   string
	MTU      int
}

// Addr is an address on an interface.
type Addr struct {
	Link   int
	Prefix netip.Prefix
}

// Route of the main table. An unreachable route has no Link.
type Route struct {
	Dst         netip.Prefix // 0.0.0.0/0 and ::/0 are the default routes
	Link        int
	Via         netip.Addr // zero: on the link itself
	Src         netip.Addr // zero: the kernel chooses
	Protocol    int        // who made it (rtnetlink(7), rtm_protocol)
	Unreachable bool
	OnLink      bool // Via is on the link, whatever other routes say
}

// Neighbour is an address on a link whose hardware address is known.
type Neighbour struct {
	Link int
	IP   netip.Addr
	MAC  net.HardwareAddr
}
