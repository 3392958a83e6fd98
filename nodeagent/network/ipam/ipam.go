// Package ipam leases the addresses of one node's Pod range to Pods. A lease is on
// disk before Acquire returns it and until Release has returned.
//
// It never looks at the network. Recovery is Open: it reads the leases back, sets
// corrupt files aside with an error that names them, and goes on after the newest.
package ipam

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/internal/ranges"
)

// ErrExhausted says that every address of the range is leased.
var ErrExhausted = errors.New("no free address")

// IPAM holds the leases of a node's ranges. It may be used concurrently, but not for one
// UID at a time twice.
type IPAM struct {
	ranges ranges.List
	store  store
	clock  clock.PassiveClock

	mu    sync.Mutex // guards memory only: files are written outside
	pool  *allocator
	byUID map[types.UID]Lease
}

// Open reads the leases in dir, which it creates. Corrupt files and leases outside
// own do not stop it: the first are returned in problems, the second in foreign;
// the caller decides what becomes of them.
//
// Addresses are chosen in the IPv4 range; a Pod's IPv6 address is the one at the same
// place of the IPv6 range, which must be as large: so one choice gives both.
func Open(dir string, own ranges.List, c clock.PassiveClock) (m *IPAM, foreign []Lease, problems []error, err error) {
	pool, err := newAllocator(own.V4())
	if err != nil {
		return nil, nil, nil, err
	}
	m = &IPAM{ranges: own, store: store{dir}, clock: c, pool: pool, byUID: map[types.UID]Lease{}}
	leases, problems, err := m.store.load()
	if err != nil {
		return nil, nil, problems, err
	}
	slices.SortFunc(leases, func(a, b Lease) int {
		return cmp.Or(a.AcquiredAt.Compare(b.AcquiredAt), a.IP.Compare(b.IP))
	})
	for _, l := range leases {
		if !m.contains(l) {
			foreign = append(foreign, l)
			continue
		}
		m.remember(l)
	}
	return m, foreign, problems, nil
}

func (m *IPAM) remember(l Lease) {
	m.pool.reserve(l.IP)
	m.byUID[l.UID] = l
}

// Acquire returns the Pod's lease, making one if there is none. The IP and time of
// want are ignored. ErrExhausted when there is no address left.
func (m *IPAM) Acquire(want Lease) (Lease, error) {
	lease, isNew, err := m.take(want)
	if err != nil || !isNew {
		return lease, err
	}
	if err := m.store.save(lease); err != nil {
		m.forget(lease)
		return Lease{}, errors.Join(err, m.store.remove(lease.IP))
	}
	return lease, nil
}

func (m *IPAM) take(want Lease) (lease Lease, isNew bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l, ok := m.byUID[want.UID]; ok {
		return l, false, nil
	}
	ip, ok := m.pool.take()
	if !ok {
		return Lease{}, false, fmt.Errorf("pod range %s: all %d addresses are leased: %w", m.ranges.V4(), m.pool.size(), ErrExhausted)
	}
	want.IP, want.IP6, want.AcquiredAt = ip, twin(m.ranges, ip), m.clock.Now().UTC()
	m.byUID[want.UID] = want
	return want, true, nil
}

// contains says whether the lease's addresses are in the node's ranges.
func (m *IPAM) contains(l Lease) bool {
	return m.pool.contains(l.IP) && (!l.IP6.IsValid() || l.IP6 == twin(m.ranges, l.IP))
}

// Restore makes a lease of a given address again, for a Pod that was found to hold
// it. It fails when the address is outside the range or leased to another Pod.
func (m *IPAM) Restore(l Lease) error {
	if err := m.claim(l); err != nil {
		return fmt.Errorf("restoring the lease of %s for Pod %s: %w", l.IP, l.UID, err)
	}
	if err := m.store.save(l); err != nil {
		m.forget(l)
		return err
	}
	return nil
}

func (m *IPAM) claim(l Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, ok := m.byUID[l.UID]; ok {
		return fmt.Errorf("the Pod holds %s", other.IP)
	}
	if !m.contains(l) {
		return fmt.Errorf("outside the Pod range %s", m.ranges)
	}
	if m.pool.used[l.IP] {
		return errors.New("leased to another Pod")
	}
	m.remember(l)
	return nil
}

// Release frees the Pod's address; no lease is fine. When the file cannot be removed
// the lease stays.
func (m *IPAM) Release(uid types.UID) error {
	l, ok := m.Lookup(uid)
	if !ok {
		return nil
	}
	if err := m.store.remove(l.IP); err != nil {
		return err
	}
	m.forget(l)
	return nil
}

// Discard removes the file of a lease that Open called foreign.
func (m *IPAM) Discard(l Lease) error { return m.store.remove(l.IP) }

func (m *IPAM) forget(l Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pool.free(l.IP)
	delete(m.byUID, l.UID)
}

// Lookup returns the Pod's lease.
func (m *IPAM) Lookup(uid types.UID) (Lease, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok := m.byUID[uid]
	return l, ok
}

// Leases returns all leases, ordered by address.
func (m *IPAM) Leases() []Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	leases := make([]Lease, 0, len(m.byUID))
	for _, l := range m.byUID {
		leases = append(leases, l)
	}
	slices.SortFunc(leases, func(a, b Lease) int { return a.IP.Compare(b.IP) })
	return leases
}
