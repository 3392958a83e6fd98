package netlinkx

import "net/netip"

// Tunnels are the part of a Handle that carries packets to other machines, and what
// one has to know of a machine for it.
type Tunnels interface {
	// AddVXLAN makes a tunnel interface that is down and neither learns nor floods; or
	// returns ErrExists, also when another one has its number and port.
	AddVXLAN(tunnel VXLAN) error
	// VXLAN returns what the interface of that name is; ErrNotFound when there is none or
	// when it is no such tunnel.
	VXLAN(name string) (VXLAN, error)

	// Forwardings lists what a tunnel knows.
	Forwardings(link int) ([]Forwarding, error)
	// SetForwarding replaces what is known of the hardware address.
	SetForwarding(forwarding Forwarding) error
	// DeleteForwarding succeeds when it is gone already.
	DeleteForwarding(forwarding Forwarding) error

	// Neighbours lists the permanent entries of both families.
	Neighbours(link int) ([]Neighbour, error)
	// DeleteNeighbour succeeds when it is gone already.
	DeleteNeighbour(neighbour Neighbour) error

	// Sysctl reads a setting; ErrNotFound when the kernel has no such setting.
	Sysctl(name string) (string, error)
}

// VXLAN is a tunnel interface to other machines (RFC 7348).
type VXLAN struct {
	Name string
	// ID is the number of the network, Port the UDP port on both sides.
	ID, Port int
	// Local is the address that packets leave from.
	Local netip.Addr
	MAC   string
	MTU   int
	// Learning says that it learns where hardware addresses are from what comes in. One
	// that this package makes does not.
	Learning bool
}

// Forwarding says at which machine a hardware address is.
type Forwarding struct {
	Link int
	MAC  string
	To   netip.Addr
}
