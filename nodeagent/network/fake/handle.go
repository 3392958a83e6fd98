package fake

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// handle is one namespace of the kernel.
type handle struct {
	k *Kernel
	s *space
}

func (k *Kernel) onHost() handle { return handle{k, k.host} }

// Link implements netlinkx.Handle on the host, as do the methods that follow.
func (k *Kernel) Link(name string) (netlinkx.Link, error) { return k.onHost().Link(name) }
func (k *Kernel) Links() ([]netlinkx.Link, error)         { return k.onHost().Links() }
func (k *Kernel) AddBridge(b netlinkx.Bridge) error       { return k.onHost().AddBridge(b) }
func (k *Kernel) AddVeth(v netlinkx.Veth) error           { return k.onHost().AddVeth(v) }
func (k *Kernel) DeleteLink(name string) error            { return k.onHost().DeleteLink(name) }
func (k *Kernel) SetUp(index int) error                   { return k.onHost().SetUp(index) }
func (k *Kernel) SetMTU(index, mtu int) error             { return k.onHost().SetMTU(index, mtu) }
func (k *Kernel) Activate(name string) error              { return k.onHost().Activate(name) }
func (k *Kernel) Addrs() ([]netlinkx.Addr, error)         { return k.onHost().Addrs() }
func (k *Kernel) ReplaceAddr(a netlinkx.Addr) error       { return k.onHost().ReplaceAddr(a) }
func (k *Kernel) DeleteAddr(a netlinkx.Addr) error        { return k.onHost().DeleteAddr(a) }
func (k *Kernel) Routes() ([]netlinkx.Route, error)       { return k.onHost().Routes() }
func (k *Kernel) ReplaceRoute(r netlinkx.Route) error     { return k.onHost().ReplaceRoute(r) }
func (k *Kernel) DeleteRoute(r netlinkx.Route) error      { return k.onHost().DeleteRoute(r) }
func (k *Kernel) SetNeighbour(n netlinkx.Neighbour) error { return k.onHost().SetNeighbour(n) }
func (k *Kernel) SetSysctl(name, value string) error      { return k.onHost().SetSysctl(name, value) }

func (h handle) do(f func() error, op string, args ...any) error {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	if err := h.k.enter(op, args...); err != nil {
		return err
	}
	return f()
}

func (s *space) find(name string) *link {
	for _, l := range s.links {
		if l.Name == name {
			return l
		}
	}
	return nil
}

func (s *space) at(index int) (*link, error) {
	if l := s.links[index]; l != nil {
		return l, nil
	}
	return nil, fmt.Errorf("interface %d: %w", index, netlinkx.ErrNotFound)
}

func (h handle) Link(name string) (found netlinkx.Link, err error) {
	err = h.do(func() error {
		l := h.s.find(name)
		if l == nil {
			return fmt.Errorf("interface %s: %w", name, netlinkx.ErrNotFound)
		}
		found = l.Link
		return nil
	}, "Link", name)
	return found, err
}

func (h handle) Links() (list []netlinkx.Link, err error) {
	err = h.do(func() error {
		for _, index := range slices.Sorted(maps.Keys(h.s.links)) {
			list = append(list, h.s.links[index].Link)
		}
		return nil
	}, "Links")
	return list, err
}

func (h handle) AddBridge(b netlinkx.Bridge) error {
	return h.do(func() error {
		if h.s.find(b.Name) != nil {
			return netlinkx.ErrExists
		}
		h.k.index++
		h.s.links[h.k.index] = &link{Link: netlinkx.Link{Index: h.k.index, Name: b.Name, Kind: "bridge", MTU: b.MTU}}
		return nil
	}, "AddBridge", b.Name)
}

func (h handle) AddVeth(v netlinkx.Veth) error {
	return h.do(func() error {
		peer := h.k.spaces[v.PeerNS]
		switch {
		case peer == nil:
			return fmt.Errorf("network namespace %s: %w", v.PeerNS, netlinkx.ErrNotFound)
		case h.s.find(v.Name) != nil, peer.find(v.PeerName) != nil:
			return netlinkx.ErrExists
		}
		a, b := h.k.index+1, h.k.index+2
		h.k.index = b
		h.s.links[a] = &link{Link: netlinkx.Link{Index: a, Name: v.Name, Kind: "veth", Peer: b, MTU: v.MTU}, peerSpace: peer}
		peer.links[b] = &link{Link: netlinkx.Link{Index: b, Name: v.PeerName, Kind: "veth", Peer: a, MTU: v.MTU}, peerSpace: h.s}
		return nil
	}, "AddVeth", v.Name)
}

func (h handle) DeleteLink(name string) error {
	return h.do(func() error {
		l := h.s.find(name)
		if l == nil {
			return fmt.Errorf("interface %s: %w", name, netlinkx.ErrNotFound)
		}
		h.s.dropLink(l.Index)
		if l.peerSpace != nil {
			l.peerSpace.dropLink(l.Peer)
		}
		return nil
	}, "DeleteLink", name)
}

func (h handle) SetUp(index int) error {
	return h.do(func() error {
		l, err := h.s.at(index)
		if err == nil {
			l.Up = true
		}
		return err
	}, "SetUp")
}

func (h handle) Activate(name string) error {
	return h.do(func() error {
		if l := h.s.find(name); l == nil || !l.Up {
			return fmt.Errorf("interface %s: %w", name, netlinkx.ErrNotFound)
		}
		return nil
	}, "Activate", name)
}

func (h handle) SetMTU(index, mtu int) error {
	return h.do(func() error {
		l, err := h.s.at(index)
		if err == nil {
			l.MTU = mtu
		}
		return err
	}, "SetMTU", mtu)
}

func (h handle) Addrs() (list []netlinkx.Addr, err error) {
	err = h.do(func() error {
		list = slices.SortedFunc(maps.Keys(h.s.addrs), func(a, b netlinkx.Addr) int {
			return cmp.Or(cmp.Compare(a.Link, b.Link), a.Prefix.Addr().Compare(b.Prefix.Addr()))
		})
		return nil
	}, "Addrs")
	return list, err
}

func (h handle) ReplaceAddr(a netlinkx.Addr) error {
	return h.do(func() error {
		if _, err := h.s.at(a.Link); err != nil {
			return err
		}
		h.s.addrs[a] = true
		return nil
	}, "ReplaceAddr", a.Prefix)
}

// DeleteAddr takes the routes with it that have the address as source.
func (h handle) DeleteAddr(a netlinkx.Addr) error {
	return h.do(func() error {
		delete(h.s.addrs, a)
		h.s.routes = slices.DeleteFunc(h.s.routes, func(r netlinkx.Route) bool { return r.Src == a.Prefix.Addr() })
		return nil
	}, "DeleteAddr", a.Prefix)
}

func (h handle) Routes() (list []netlinkx.Route, err error) {
	err = h.do(func() error {
		list = slices.Clone(h.s.routes)
		return nil
	}, "Routes")
	return list, err
}

// ReplaceRoute refuses what the kernel refuses: an interface that is down, a gateway
// that no route of the interface reaches, a source that is no address of the host.
func (h handle) ReplaceRoute(r netlinkx.Route) error {
	return h.do(func() error {
		if err := h.s.admit(r); err != nil {
			return fmt.Errorf("route to %s: %w", r.Dst, err)
		}
		h.s.routes = slices.DeleteFunc(h.s.routes, func(old netlinkx.Route) bool { return old.Dst == r.Dst })
		h.s.routes = append(h.s.routes, r)
		return nil
	}, "ReplaceRoute", r.Dst)
}

func (s *space) admit(r netlinkx.Route) error {
	if !r.Unreachable {
		l, err := s.at(r.Link)
		if err != nil {
			return err
		}
		if !l.Up {
			return errors.New("network is down")
		}
	}
	onLink := func(known netlinkx.Route) bool {
		return known.Link == r.Link && !known.Via.IsValid() && known.Dst.Contains(r.Via)
	}
	if r.Via.IsValid() && !r.OnLink && !slices.ContainsFunc(s.routes, onLink) {
		return errors.New("nexthop has invalid gateway")
	}
	if !r.Src.IsValid() {
		return nil
	}
	for a := range s.addrs {
		if a.Prefix.Addr() == r.Src {
			return nil
		}
	}
	return errors.New("invalid prefsrc address")
}

func (h handle) DeleteRoute(r netlinkx.Route) error {
	return h.do(func() error {
		h.s.routes = slices.DeleteFunc(h.s.routes, func(old netlinkx.Route) bool { return old == r })
		return nil
	}, "DeleteRoute", r.Dst)
}

func (h handle) SetNeighbour(n netlinkx.Neighbour) error {
	return h.do(func() error {
		if _, err := h.s.at(n.Link); err != nil {
			return err
		}
		maps.DeleteFunc(h.s.neigh, func(old neighbour, _ bool) bool { return old.link == n.Link && old.ip == n.IP })
		h.s.neigh[neighbour{n.Link, n.IP, n.MAC.String()}] = true
		return nil
	}, "SetNeighbour", n.IP)
}

// SetSysctl knows all settings but those of interfaces that do not exist.
func (h handle) SetSysctl(name, value string) error {
	return h.do(func() error {
		parts := strings.Split(name, "/")
		if len(parts) == 5 && parts[2] == "conf" && parts[3] != "all" && h.s.find(parts[3]) == nil {
			return fmt.Errorf("%s: %w", name, netlinkx.ErrNotFound)
		}
		if len(parts) != 5 || parts[3] == "all" {
			h.s.sysctls[name] = value
		}
		return nil
	}, "SetSysctl", name)
}
