package policy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// kernel is a driver that keeps the addresses that accept nothing.
type kernel struct {
	mu       sync.Mutex
	isolated map[string]bool
	fail     error
	lost     bool
	writes   int
}

func (k *kernel) Apply(want [2]model.Table) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.writes++
	k.lost = false
	k.isolated = map[string]bool{}
	for _, t := range want {
		for ip := range t.Ingress {
			k.isolated[ip.String()] = true
		}
	}
	return nil
}

func (k *kernel) Verify() (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.lost, nil
}

func (k *kernel) shows(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := map[string]bool{}
	for _, ip := range want {
		wanted[ip] = true
	}
	if diff := cmp.Diff(wanted, k.isolated); diff != "" {
		t.Errorf("isolated addresses (-want +got):\n%s", diff)
	}
}

// start returns an enforcer whose watches have listed everything.
func start(t *testing.T, k *kernel, policies int) *Enforcer {
	t.Helper()
	e := New(Options{NodeName: "here", Driver: k, Clock: clock.RealClock{}})
	e.change(func() bool {
		for range policies {
			if err := e.tracker.SetPolicy(types.NamespacedName{Namespace: "x", Name: "deny"}, &networkingv1.NetworkPolicySpec{}); err != nil {
				t.Error(err)
			}
		}
		e.policiesKnown, e.peersKnown = true, true
		return true
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.runner.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	return e
}

func somePod(name, uid, ip string) model.Pod {
	return model.Pod{Name: types.NamespacedName{Namespace: "x", Name: name}, UID: types.UID(uid), Node: "here", IPs: []netip.Addr{netip.MustParseAddr(ip)}}
}

func TestAttachReturnsWhenTheKernelHasTheRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{fail: errors.New("no netlink")}
		e := start(t, k, 1)
		done := make(chan error, 1)
		go func() { done <- e.Attach(t.Context(), somePod("a", "1", "10.0.0.1")) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Attach returned before the kernel had the rules: %v", err)
		default:
		}
		k.mu.Lock()
		k.fail = nil
		k.mu.Unlock()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		k.shows(t, "10.0.0.1")
	})
}

func TestAttachGivesUpSoThatTheStartIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, &kernel{fail: errors.New("no netlink")}, 1)
		if err := e.Attach(t.Context(), somePod("a", "1", "10.0.0.1")); err == nil {
			t.Error("a Pod without its rules was let in")
		}
	})
}

func TestAttachWithoutPoliciesNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := start(t, &kernel{fail: errors.New("no netlink")}, 0)
		if err := e.Attach(t.Context(), somePod("a", "1", "10.0.0.1")); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAddressBelongsToWhoHasItNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		e := start(t, k, 1)
		a := somePod("a", "1", "10.0.0.1")
		if err := e.Attach(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		e.setPod(a) // the API shows it, too
		other := somePod("b", "2", "10.0.0.2")
		other.Node = "elsewhere"
		e.setPod(other)
		k.shows(t, "10.0.0.1")

		e.Detach("1")
		time.Sleep(time.Second) // fake time: the runner's pause
		k.shows(t)
		e.setPod(a) // still shown with the address that it had
		time.Sleep(time.Second)
		k.shows(t)

		again := somePod("a", "3", "10.0.0.3") // made again under its name
		if err := e.Attach(t.Context(), again); err != nil {
			t.Fatal(err)
		}
		e.setPod(again)
		time.Sleep(time.Second)
		k.shows(t, "10.0.0.3")
		e.removePod(again.Name)
		e.Detach("3")
		time.Sleep(time.Second)
		k.shows(t)
		if len(e.local) != 0 {
			t.Errorf("remembers %v", e.local)
		}
	})
}

func TestALostTableIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &kernel{}
		e := start(t, k, 1)
		if err := e.Attach(t.Context(), somePod("a", "1", "10.0.0.1")); err != nil {
			t.Fatal(err)
		}
		k.mu.Lock()
		k.lost, k.isolated = true, nil
		k.mu.Unlock()
		time.Sleep(CheckInterval + time.Second)
		k.shows(t, "10.0.0.1")
	})
}
