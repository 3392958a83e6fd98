package join

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"
)

func TestTheAddressOfANode(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	tests := map[string]struct {
		given    bool
		own      []netip.Addr
		toServer netip.Addr
		want     netip.Addr
	}{
		"stays while the machine has it":                {own: []netip.Addr{two, one}, toServer: two, want: one},
		"is the new one when the machine has lost it":   {own: []netip.Addr{two}, toServer: two, want: two},
		"stays when its owner has named it":             {given: true, own: []netip.Addr{two}, toServer: two, want: one},
		"stays when nothing leads to the cluster":       {want: one},
		"is not that of the loopback":                   {toServer: netip.MustParseAddr("127.0.0.1"), want: one},
		"is not one that the machine has for a Service": {own: []netip.Addr{netip.MustParseAddr("192.0.2.100")}, toServer: netip.MustParseAddr("192.0.2.100"), want: one},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := settings{NodeIP: one, NodeIPGiven: tt.given, Cluster: ClusterConfig{LoadBalancerPool: []string{"192.0.2.100-192.0.2.110"}}}
			if got := planAddress(s, tt.own, tt.toServer); got != tt.want {
				t.Errorf("address %s, want %s", got, tt.want)
			}
		})
	}
}

// fakeAddresses is a machine whose addresses tests change.
type fakeAddresses struct {
	mu      sync.Mutex
	own     []netip.Addr
	changed chan struct{}
	// lose ends the first subscription.
	lose chan struct{}
}

func (m *fakeAddresses) set(own ...netip.Addr) {
	m.mu.Lock()
	m.own = own
	m.mu.Unlock()
	m.changed <- struct{}{}
}

func (m *fakeAddresses) addresses() machineAddresses {
	list := func() ([]netip.Addr, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.own, nil
	}
	return machineAddresses{
		list: list, clock: clock.RealClock{},
		follow: func(ctx context.Context, changed func()) error {
			changed()
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-m.lose:
					return errors.New("lost")
				case <-m.changed:
					changed()
				}
			}
		},
		toServer: func(context.Context) (netip.Addr, error) {
			own, _ := list()
			if len(own) == 0 {
				return netip.Addr{}, errors.New("network is unreachable")
			}
			return own[0], nil
		},
	}
}

func TestANodeFollowsTheAddressOfItsMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, three := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("192.0.2.9")
		node, machine := &fakeNode{}, &fakeAddresses{own: []netip.Addr{one}, changed: make(chan struct{}), lose: make(chan struct{})}
		f := &follower{settings: settings{NodeName: "attic", NodeIP: one}, keep: node.keep, restart: node.restart}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.followAddress(ctx, machine.addresses()) }()
		defer func() { cancel(); <-done }()
		expect := func(when string, restarts int, address netip.Addr) {
			t.Helper()
			time.Sleep(settlePeriod + time.Second)
			synctest.Wait()
			if node.restarts != restarts || f.now().NodeIP != address || f.now().NodeName != "attic" {
				t.Errorf("%s: %d restarts, settings %+v; want %d, %s", when, node.restarts, f.now(), restarts, address)
			}
		}
		expect("at first", 0, one)

		machine.set()
		expect("without any address", 0, one)
		machine.set(two)
		expect("with another", 1, two)

		machine.set(three)
		machine.set()
		machine.set(two)
		expect("after another for a moment", 1, two)

		node.failKeep = errors.New("disk full")
		machine.set(three)
		expect("after settings that could not be kept", 1, two)
		// What changes while nobody listens is seen when somebody does.
		machine.lose <- struct{}{}
		time.Sleep(againPeriod)
		expect("after messages were lost", 2, three)
	})
}
