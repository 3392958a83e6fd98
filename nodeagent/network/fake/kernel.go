// Package fake is a kernel in memory for tests: it keeps interfaces, addresses,
// routes, neighbours and namespaces with the rules that callers depend on (what goes
// away together, what must exist first), and fails the call that a test names.
//
// It holds no file and forgets everything with the process.
package fake

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// ErrInjected is what a call returns that was told to fail.
var ErrInjected = errors.New("injected failure")

// Kernel implements netlinkx.Kernel.
type Kernel struct {
	mu     sync.Mutex
	host   *space
	spaces map[string]*space // by path

	calls  []string
	failAt map[int]bool
	failOp map[string]error
	index  int
}

var _ netlinkx.Kernel = (*Kernel)(nil)

type space struct {
	name    string
	links   map[int]*link
	addrs   map[netlinkx.Addr]bool
	routes  []netlinkx.Route
	neigh   map[neighbour]bool
	sysctls map[string]string

	forwardings map[netlinkx.Forwarding]bool
}

// neighbour is the key of an entry and its hardware address.
type neighbour struct {
	link int
	ip   netip.Addr
	mac  string
}

type link struct {
	netlinkx.Link
	peerSpace *space
	tunnel    netlinkx.VXLAN
}

// New returns a machine with a loopback interface.
func New() *Kernel {
	k := &Kernel{spaces: map[string]*space{}, failAt: map[int]bool{}, failOp: map[string]error{}}
	k.host = k.newSpace("host")
	return k
}

func (k *Kernel) newSpace(name string) *space {
	s := &space{name: name, links: map[int]*link{}, addrs: map[netlinkx.Addr]bool{}, neigh: map[neighbour]bool{}, sysctls: map[string]string{}, forwardings: map[netlinkx.Forwarding]bool{}}
	k.index++
	s.links[k.index] = &link{Link: netlinkx.Link{Index: k.index, Name: "lo", Kind: "device", MTU: 65536}}
	return s
}

// AddDevice puts a physical interface with an address on the host.
func (k *Kernel) AddDevice(l netlinkx.Link, addrs ...netlinkx.Addr) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.index++
	l.Index, l.Kind = k.index, cmp.Or(l.Kind, "device")
	k.host.links[l.Index] = &link{Link: l}
	for _, a := range addrs {
		a.Link = l.Index
		k.host.addrs[a] = true
	}
	return l.Index
}

// FailCall lets the n-th call from now fail, counting from 1, without effect.
func (k *Kernel) FailCall(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failAt[len(k.calls)+n] = true
}

// FailNext lets the next call of one kind, such as "AddVeth", fail.
func (k *Kernel) FailNext(op string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failOp[op] = err
}

// StopFailing takes back what FailCall and FailNext ordered.
func (k *Kernel) StopFailing() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.failAt)
	clear(k.failOp)
}

// Calls returns what was called so far, "AddVeth kls123" and the like.
func (k *Kernel) Calls() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

// State returns one line for everything that exists, in a fixed order that does not
// depend on interface indexes.
func (k *Kernel) State() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	lines := k.host.describe()
	for _, path := range slices.Sorted(maps.Keys(k.spaces)) {
		lines = append(lines, k.spaces[path].describe()...)
	}
	return lines
}

func (s *space) describe() []string {
	name := func(index int) string {
		if l := s.links[index]; l != nil {
			return l.Name
		}
		return "-"
	}
	lines := []string{}
	for _, l := range s.links {
		lines = append(lines, fmt.Sprintf("%s: link %s %s mtu %d up %v", s.name, l.Name, l.Kind, l.MTU, l.Up))
	}
	for a := range s.addrs {
		lines = append(lines, fmt.Sprintf("%s: address %s on %s", s.name, a.Prefix, name(a.Link)))
	}
	for _, r := range s.routes {
		lines = append(lines, fmt.Sprintf("%s: route %s dev %s via %s src %s proto %d unreachable %v", s.name, r.Dst, name(r.Link), r.Via, r.Src, r.Protocol, r.Unreachable))
	}
	for key, value := range s.sysctls {
		lines = append(lines, fmt.Sprintf("%s: %s=%s", s.name, key, value))
	}
	for n := range s.neigh {
		lines = append(lines, fmt.Sprintf("%s: neighbour %s %s on %s", s.name, n.ip, n.mac, name(n.link)))
	}
	for f := range s.forwardings {
		lines = append(lines, fmt.Sprintf("%s: %s at %s on %s", s.name, f.MAC, f.To, name(f.Link)))
	}
	slices.Sort(lines)
	return lines
}

// enter records a call and returns the failure that was ordered for it. mu is held.
func (k *Kernel) enter(op string, args ...any) error {
	k.calls = append(k.calls, fmt.Sprint(append([]any{op + " "}, args...)...))
	if err, ok := k.failOp[op]; ok {
		delete(k.failOp, op)
		return fmt.Errorf("%s: %w", op, err)
	}
	if k.failAt[len(k.calls)] {
		return fmt.Errorf("%s: %w", op, ErrInjected)
	}
	return nil
}

// CreateNamespace implements netlinkx.Namespaces.
func (k *Kernel) CreateNamespace(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("CreateNamespace", path); err != nil {
		return err
	}
	if k.spaces[path] == nil {
		k.spaces[path] = k.newSpace(filepath.Base(path))
	}
	return nil
}

// CreateOwnedNamespace implements netlinkx.Namespaces; Calls tells the owner.
func (k *Kernel) CreateOwnedNamespace(path string, users userns.Range) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("CreateOwnedNamespace", path, users.HostID); err != nil {
		return err
	}
	if k.spaces[path] == nil {
		k.spaces[path] = k.newSpace(filepath.Base(path))
	}
	return nil
}

// DeleteNamespace implements netlinkx.Namespaces. The namespace goes at once, with
// its interfaces and their peers.
func (k *Kernel) DeleteNamespace(path string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("DeleteNamespace", path); err != nil {
		return err
	}
	s := k.spaces[path]
	if s == nil {
		return nil
	}
	for _, l := range s.links {
		if l.peerSpace != nil {
			l.peerSpace.dropLink(l.Peer)
		}
	}
	delete(k.spaces, path)
	return nil
}

// ListNamespaces implements netlinkx.Namespaces.
func (k *Kernel) ListNamespaces(dir string) ([]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.enter("ListNamespaces", dir); err != nil {
		return nil, err
	}
	names := []string{}
	for path := range k.spaces {
		if filepath.Dir(path) == dir {
			names = append(names, filepath.Base(path))
		}
	}
	slices.Sort(names)
	return names, nil
}

// InNamespace implements netlinkx.Namespaces.
func (k *Kernel) InNamespace(path string, f func(netlinkx.Handle) error) error {
	k.mu.Lock()
	err := k.enter("InNamespace", path)
	s := k.spaces[path]
	k.mu.Unlock()
	if err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("network namespace %s: %w", path, netlinkx.ErrNotFound)
	}
	return f(handle{k, s})
}

func (s *space) dropLink(index int) {
	delete(s.links, index)
	maps.DeleteFunc(s.addrs, func(a netlinkx.Addr, _ bool) bool { return a.Link == index })
	s.routes = slices.DeleteFunc(s.routes, func(r netlinkx.Route) bool { return r.Link == index })
	maps.DeleteFunc(s.neigh, func(n neighbour, _ bool) bool { return n.link == index })
	maps.DeleteFunc(s.forwardings, func(f netlinkx.Forwarding, _ bool) bool { return f.Link == index })
}
