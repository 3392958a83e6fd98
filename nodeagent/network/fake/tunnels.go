package fake

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// AddVXLAN implements netlinkx.Tunnels on the host.
func (k *Kernel) AddVXLAN(v netlinkx.VXLAN) error { return k.onHost().AddVXLAN(v) }

// VXLAN implements netlinkx.Tunnels on the host.
func (k *Kernel) VXLAN(name string) (netlinkx.VXLAN, error) { return k.onHost().VXLAN(name) }

// Forwardings implements netlinkx.Tunnels on the host.
func (k *Kernel) Forwardings(link int) ([]netlinkx.Forwarding, error) {
	return k.onHost().Forwardings(link)
}

// SetForwarding implements netlinkx.Tunnels on the host.
func (k *Kernel) SetForwarding(f netlinkx.Forwarding) error { return k.onHost().SetForwarding(f) }

// DeleteForwarding implements netlinkx.Tunnels on the host.
func (k *Kernel) DeleteForwarding(f netlinkx.Forwarding) error { return k.onHost().DeleteForwarding(f) }

// Neighbours implements netlinkx.Tunnels on the host.
func (k *Kernel) Neighbours(link int) ([]netlinkx.Neighbour, error) {
	return k.onHost().Neighbours(link)
}

// DeleteNeighbour implements netlinkx.Tunnels on the host.
func (k *Kernel) DeleteNeighbour(n netlinkx.Neighbour) error { return k.onHost().DeleteNeighbour(n) }

// Sysctl implements netlinkx.Tunnels on the host.
func (k *Kernel) Sysctl(name string) (string, error) { return k.onHost().Sysctl(name) }

// AddVXLAN implements netlinkx.Tunnels.
func (h handle) AddVXLAN(v netlinkx.VXLAN) error {
	return h.do(func() error {
		for _, l := range h.s.links {
			if l.Name == v.Name || l.tunnel.ID == v.ID && l.tunnel.Port == v.Port && l.Kind == "vxlan" {
				return netlinkx.ErrExists
			}
		}
		h.k.index++
		h.s.links[h.k.index] = &link{Link: netlinkx.Link{Index: h.k.index, Name: v.Name, Kind: "vxlan", MTU: v.MTU}, tunnel: v}
		return nil
	}, "AddVXLAN", v.Name)
}

// VXLAN implements netlinkx.Tunnels.
func (h handle) VXLAN(name string) (v netlinkx.VXLAN, err error) {
	err = h.do(func() error {
		l := h.s.find(name)
		if l == nil || l.Kind != "vxlan" {
			return fmt.Errorf("tunnel %s: %w", name, netlinkx.ErrNotFound)
		}
		v = l.tunnel
		v.MTU = l.MTU
		return nil
	}, "VXLAN", name)
	return v, err
}

// Forwardings implements netlinkx.Tunnels.
func (h handle) Forwardings(link int) (list []netlinkx.Forwarding, err error) {
	err = h.do(func() error {
		for f := range h.s.forwardings {
			if f.Link == link {
				list = append(list, f)
			}
		}
		slices.SortFunc(list, func(a, b netlinkx.Forwarding) int { return cmp.Or(cmp.Compare(a.MAC, b.MAC), a.To.Compare(b.To)) })
		return nil
	}, "Forwardings")
	return list, err
}

// SetForwarding implements netlinkx.Tunnels.
func (h handle) SetForwarding(f netlinkx.Forwarding) error {
	return h.do(func() error {
		if _, err := h.s.at(f.Link); err != nil {
			return err
		}
		maps.DeleteFunc(h.s.forwardings, func(old netlinkx.Forwarding, _ bool) bool { return old.Link == f.Link && old.MAC == f.MAC })
		h.s.forwardings[f] = true
		return nil
	}, "SetForwarding", f.MAC)
}

// DeleteForwarding implements netlinkx.Tunnels.
func (h handle) DeleteForwarding(f netlinkx.Forwarding) error {
	return h.do(func() error { delete(h.s.forwardings, f); return nil }, "DeleteForwarding", f.MAC)
}

// Neighbours implements netlinkx.Tunnels.
func (h handle) Neighbours(link int) (list []netlinkx.Neighbour, err error) {
	err = h.do(func() error {
		for n := range h.s.neigh {
			if n.link != link {
				continue
			}
			mac, err := net.ParseMAC(n.mac)
			if err != nil {
				return err
			}
			list = append(list, netlinkx.Neighbour{Link: link, IP: n.ip, MAC: mac})
		}
		slices.SortFunc(list, func(a, b netlinkx.Neighbour) int { return a.IP.Compare(b.IP) })
		return nil
	}, "Neighbours")
	return list, err
}

// DeleteNeighbour implements netlinkx.Tunnels.
func (h handle) DeleteNeighbour(n netlinkx.Neighbour) error {
	return h.do(func() error {
		maps.DeleteFunc(h.s.neigh, func(old neighbour, _ bool) bool { return old.link == n.Link && old.ip == n.IP })
		return nil
	}, "DeleteNeighbour", n.IP)
}

// Sysctl implements netlinkx.Tunnels. What nobody set is not there.
func (h handle) Sysctl(name string) (value string, err error) {
	err = h.do(func() error {
		found, ok := h.s.sysctls[name]
		if !ok {
			return fmt.Errorf("%s: %w", name, netlinkx.ErrNotFound)
		}
		value = found
		return nil
	}, "Sysctl", name)
	return value, err
}
