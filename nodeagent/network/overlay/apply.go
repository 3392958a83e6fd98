package overlay

import (
	"net"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// readEntries lists what the kernel has of ours: our routes, wherever they lead, and
// all that is on the tunnel.
func readEntries(k netlinkx.Handle, link int, mode Mode) (entries, error) {
	have := entries{}
	routes, err := k.Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		if IsRoute(r) {
			have[entry{route: r}] = true
		}
	}
	if mode != VXLAN {
		return have, nil
	}
	neighbours, err := k.Neighbours(link)
	if err != nil {
		return nil, err
	}
	for _, n := range neighbours {
		have[entry{neighbour: neighbour{link, n.IP, n.MAC.String()}}] = true
	}
	forwardings, err := k.Forwardings(link)
	if err != nil {
		return nil, err
	}
	for _, f := range forwardings {
		have[entry{forwarding: f}] = true
	}
	return have, nil
}

// apply removes and sets entries, in their order.
func (o *Overlay) apply(set, gone []entry) error {
	for _, e := range gone {
		if err := o.remove(e); err != nil {
			return err
		}
	}
	for _, e := range set {
		if err := o.set(e); err != nil {
			return err
		}
	}
	return nil
}

func (o *Overlay) set(e entry) error {
	switch e.rank() {
	case 0:
		return o.kernel.SetForwarding(e.forwarding)
	case 1:
		mac, err := net.ParseMAC(e.neighbour.mac)
		if err != nil {
			return err
		}
		return o.kernel.SetNeighbour(netlinkx.Neighbour{Link: e.neighbour.link, IP: e.neighbour.ip, MAC: mac})
	}
	return o.kernel.ReplaceRoute(e.route)
}

func (o *Overlay) remove(e entry) error {
	switch e.rank() {
	case 0:
		return o.kernel.DeleteForwarding(e.forwarding)
	case 1:
		return o.kernel.DeleteNeighbour(netlinkx.Neighbour{Link: e.neighbour.link, IP: e.neighbour.ip})
	}
	return o.kernel.DeleteRoute(e.route)
}
