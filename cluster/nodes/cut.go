package nodes

import (
	"fmt"
	"net/netip"
	"strings"
)

// Cut says what of a node's traffic gets lost; the zero value is nothing.
type Cut struct {
	// From is whom the node is cut off from.
	From Peer `json:"from,omitempty"`
	// Only is the one direction that is cut; empty is both.
	Only Direction `json:"only,omitempty"`
}

// Peer is whom a node may be cut off from.
type Peer string

// Peers.
const (
	// ControlPlane is this machine: API server, manager and gateway.
	ControlPlane Peer = "control-plane"
	// OtherNodes are the other nodes, with all Pods on them.
	OtherNodes Peer = "nodes"
	// Everybody is both, and the world outside.
	Everybody Peer = "all"
)

// Direction of packets, seen from the node.
type Direction string

// Directions.
const (
	Sent     Direction = "sent"
	Received Direction = "received"
)

// Validate says what is wrong, naming the flags of the command.
func (c Cut) Validate() error {
	switch c.From {
	case ControlPlane, OtherNodes, Everybody:
	default:
		return fmt.Errorf("--from: %q is none of %s, %s, %s", c.From, ControlPlane, OtherNodes, Everybody)
	}
	switch c.Only {
	case "", Sent, Received:
		return nil
	}
	return fmt.Errorf("--only: %q is neither %s nor %s", c.Only, Sent, Received)
}

// String is the cut in words, "" for none.
func (c Cut) String() string {
	switch {
	case c.From == "":
		return ""
	case c.Only == "":
		return "cut off from " + string(c.From)
	default:
		return fmt.Sprintf("cut off from %s (only what it has %s)", c.From, c.Only)
	}
}

func (c Cut) loses(peer Peer, d Direction) bool {
	return (c.From == peer || c.From == Everybody) && (c.Only == "" || c.Only == d)
}

// unplugged says that the node's port is taken off the bridge, as a cable that is
// pulled out at the switch.
func (c Cut) unplugged() bool { return c.From == Everybody && c.Only == "" }

// drop is a rule of who throws packets away on arrival. Packets are dropped where they
// arrive, never where they are sent: a sender must not learn of it.
type drop struct {
	from, to netip.Addr // to invalid: any address
	device   string
}

func (d drop) rule() string {
	words := []string{"-i", d.device, "-s", d.from.String()}
	if d.to.IsValid() {
		words = append(words, "-d", d.to.String())
	}
	return strings.Join(append(words, "-j", "DROP"), " ")
}

// plannedDrops returns what this machine drops, and what each node drops, by name, of the
// given network's family.
func (o Options) plannedDrops(network netip.Prefix, nodes []Node) (here []drop, inside map[string][]drop) {
	gateway := Gateway(network)
	address := func(n Node) netip.Addr {
		if network == o.Network6 {
			return Second(o.Network, network, n.Address)
		}
		return n.Address
	}
	inside = map[string][]drop{}
	for _, n := range nodes {
		if n.Cut.unplugged() {
			continue
		}
		if n.Cut.loses(ControlPlane, Sent) {
			here = append(here, drop{from: address(n), to: gateway, device: Bridge})
		}
		if n.Cut.loses(ControlPlane, Received) {
			inside[n.Name] = append(inside[n.Name], drop{from: gateway, device: uplink})
		}
		for _, other := range nodes {
			if other.Name == n.Name {
				continue
			}
			if n.Cut.loses(OtherNodes, Received) || other.Cut.loses(OtherNodes, Sent) && !other.Cut.unplugged() {
				inside[n.Name] = append(inside[n.Name], drop{from: address(other), device: uplink})
			}
		}
	}
	return here, inside
}
