package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/fake"
	"github.com/keelson-dev/keelson/nodeagent/network/ipam"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

// machine is a node whose kernel is the fake one; its files are real.
type machine struct {
	*testing.T
	kernel *fake.Kernel
	cfg    Config
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, kernel: fake.New(), cfg: DefaultConfig()}
	m.cfg.Kernel = m.kernel
	m.cfg.StateDir, m.cfg.NetNSDir = t.TempDir(), "/run/test/netns"
	return m
}

// start is what an agent does that starts on this machine.
func (m *machine) start() *Network {
	m.Helper()
	n := New(m.cfg)
	if err := n.Configure(m.Context(), podRange); err != nil {
		m.Fatal(err)
	}
	return n
}

func (m *machine) leaseFiles() []string {
	m.Helper()
	paths, err := filepath.Glob(filepath.Join(m.cfg.StateDir, "leases", "*"))
	if err != nil {
		m.Fatal(err)
	}
	return paths
}

// untilItWorks repeats an action, each time on what the failed ones left and with one
// more call going through, until it meets no failure: so it fails once at every call
// that it makes. between runs after each failure.
func (m *machine) untilItWorks(action func() error, between func()) {
	m.Helper()
	for call := 1; call < 500; call++ {
		before := len(m.kernel.Calls())
		m.kernel.FailCall(call)
		err := action()
		made := len(m.kernel.Calls()) - before
		m.kernel.StopFailing()
		if err == nil && made < call {
			return
		}
		if !errors.Is(err, fake.ErrInjected) {
			m.Fatalf("call %d (%s) failed but the action said %v", call, m.kernel.Calls()[before+call-1], err)
		}
		between()
	}
	m.Fatal("the action never ends")
}

var never = func(types.UID) bool { return false }

func TestEveryActionConvergesAfterAFailureAtEveryCall(t *testing.T) {
	type story struct {
		prepare func(m *machine) *Network
		action  func(ctx context.Context, n *Network) error
	}
	withPod := func(m *machine) *Network {
		n := m.start()
		if _, err := n.Setup(m.Context(), ref("a")); err != nil {
			m.Fatal(err)
		}
		return n
	}
	stories := map[string]story{
		"configure": {
			prepare: func(m *machine) *Network { return New(m.cfg) },
			action:  func(ctx context.Context, n *Network) error { return n.Configure(ctx, podRange) },
		},
		"set up": {
			prepare: func(m *machine) *Network { return m.start() },
			action:  func(ctx context.Context, n *Network) error { _, err := n.Setup(ctx, ref("a")); return err },
		},
		"set up again": {
			prepare: withPod,
			action:  func(ctx context.Context, n *Network) error { _, err := n.Setup(ctx, ref("a")); return err },
		},
		"tear down": {
			prepare: withPod,
			action:  func(ctx context.Context, n *Network) error { return n.Teardown(ctx, ref("a").UID) },
		},
		"sweep": {
			prepare: withPod,
			action:  func(ctx context.Context, n *Network) error { return n.Sweep(ctx, never) },
		},
		"remove": {
			prepare: withPod,
			action:  func(ctx context.Context, n *Network) error { return n.Remove(ctx) },
		},
	}
	for name, story := range stories {
		undisturbed := newMachine(t)
		if err := story.action(t.Context(), story.prepare(undisturbed)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Run(name+", repeated by the same process", func(t *testing.T) {
			m := newMachine(t)
			n := story.prepare(m)
			m.untilItWorks(func() error { return story.action(t.Context(), n) }, func() {
				if name != "remove" {
					m.wantNothingWithoutLease()
				}
			})
			m.wantLike(undisturbed)
		})
		t.Run(name+", repeated by a restarted process", func(t *testing.T) {
			m := newMachine(t)
			n := story.prepare(m)
			m.untilItWorks(func() error { return story.action(t.Context(), n) }, func() {
				if name == "remove" || name == "configure" {
					n = New(m.cfg)
					return
				}
				n = m.start()
			})
			m.wantLike(undisturbed)
		})
	}
}

// wantNothingWithoutLease holds what Sweep relies on.
func (m *machine) wantNothingWithoutLease() {
	m.Helper()
	for _, line := range m.kernel.State() {
		ours := strings.Contains(line, linkName("uid-a")) || strings.HasPrefix(line, "uid-a:")
		if ours && len(m.leaseFiles()) == 0 {
			m.Errorf("there is %q without a lease", line)
		}
	}
}

func (m *machine) wantLike(other *machine) {
	m.Helper()
	if diff := cmp.Diff(other.kernel.State(), m.kernel.State()); diff != "" {
		m.Errorf("the kernel differs from one that never failed (-want +got):\n%s", diff)
	}
	if got, want := len(m.leaseFiles()), len(other.leaseFiles()); got != want {
		m.Errorf("%d lease files, want %d", got, want)
	}
}

func TestSweepRemovesWhateverASetupThatDiedHasMade(t *testing.T) {
	clean := newMachine(t)
	clean.start()
	for call := 1; ; call++ {
		m := newMachine(t)
		n := m.start()
		m.kernel.FailCall(call)
		_, err := n.Setup(t.Context(), ref("a"))
		if err == nil {
			return
		}
		if err := m.start().Sweep(t.Context(), never); err != nil {
			t.Fatalf("call %d: Sweep: %v", call, err)
		}
		m.wantLike(clean)
	}
}

func TestSweepKeepsWhatIsWanted(t *testing.T) {
	m := newMachine(t)
	n := m.start()
	for _, name := range []string{"kept", "orphan"} {
		if _, err := n.Setup(t.Context(), ref(name)); err != nil {
			t.Fatal(err)
		}
	}
	// An interface and a namespace that belong to nobody.
	for _, path := range []string{"/run/test/netns/nobody", "/run/elsewhere/foreign"} {
		if err := m.kernel.CreateNamespace(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.kernel.AddVeth(netlinkx.Veth{Name: linkName("gone"), PeerName: "x", PeerNS: "/run/elsewhere/foreign"}); err != nil {
		t.Fatal(err)
	}
	m.kernel.AddDevice(netlinkx.Link{Name: "klsomething"})

	if err := n.Sweep(t.Context(), func(uid types.UID) bool { return uid == "uid-kept" }); err != nil {
		t.Fatal(err)
	}
	state := strings.Join(m.kernel.State(), "\n")
	for _, want := range []string{"link " + linkName("uid-kept"), "uid-kept: link eth0", "link klsomething", "foreign: link lo"} {
		if !strings.Contains(state, want) {
			t.Errorf("%q was removed", want)
		}
	}
	for _, unwanted := range []string{linkName("uid-orphan"), linkName("gone"), "nobody", "uid-orphan"} {
		if strings.Contains(state, unwanted) {
			t.Errorf("%q was left", unwanted)
		}
	}
	if _, ok := n.Lookup("uid-orphan"); ok {
		t.Error("the orphan keeps its address")
	}
}

func TestSweepLeavesAPodAloneThatIsBeingSetUp(t *testing.T) {
	m := newMachine(t)
	n := m.start()
	known := map[types.UID]bool{}
	if _, err := n.Setup(t.Context(), ref("early")); err != nil {
		t.Fatal(err)
	}
	// keep answers from the present: the Pod that appears while Sweep runs is known
	// by the time Sweep asks for it.
	asked := []types.UID{}
	err := n.Sweep(t.Context(), func(uid types.UID) bool {
		asked = append(asked, uid)
		if !known["uid-late"] {
			known["uid-late"] = true
			if _, err := n.Setup(t.Context(), ref("late")); err != nil {
				t.Error(err)
			}
		}
		return known[uid]
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := n.Lookup("uid-late"); !ok {
		t.Errorf("the Pod that was set up during Sweep (asked for %v) lost its network", asked)
	}
	if _, ok := n.Lookup("uid-early"); ok {
		t.Error("the unwanted Pod keeps its network")
	}
}

func TestSetupErrors(t *testing.T) {
	t.Run("before Configure", func(t *testing.T) {
		if _, err := New(newMachine(t).cfg).Setup(t.Context(), ref("a")); !errors.Is(err, ErrNotConfigured) {
			t.Errorf("got %v, want %v", err, ErrNotConfigured)
		}
	})
	t.Run("with a UID that is no file name", func(t *testing.T) {
		m := newMachine(t)
		n := m.start()
		for _, uid := range []types.UID{"", ".", "..", "../x", "a/b", "a b", types.UID(strings.Repeat("x", 129))} {
			if _, err := n.Setup(t.Context(), PodRef{UID: uid}); err == nil || !strings.Contains(err.Error(), "UID") {
				t.Errorf("UID %q: %v; want it refused", uid, err)
			}
		}
	})
	t.Run("when the range is used up, until an address is freed", func(t *testing.T) {
		m := newMachine(t)
		n := New(m.cfg)
		if err := n.Configure(t.Context(), ranges.MustParse("10.244.0.0/30")); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Setup(t.Context(), ref("a")); err != nil {
			t.Fatal(err)
		}
		_, err := n.Setup(t.Context(), ref("b"))
		if !errors.Is(err, ipam.ErrExhausted) || !strings.Contains(err.Error(), "10.244.0.0/30") {
			t.Errorf("got %v; want it to say that 10.244.0.0/30 is exhausted", err)
		}
		if err := n.Teardown(t.Context(), "uid-a"); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Setup(t.Context(), ref("b")); err != nil {
			t.Errorf("after an address was freed: %v", err)
		}
	})
	t.Run("after the context ended", func(t *testing.T) {
		n := newMachine(t).start()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := n.Setup(ctx, ref("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
	})
}

func TestConfigureRefusesAnotherRangeWhilePodsRun(t *testing.T) {
	other := ranges.MustParse("10.244.7.0/24")
	t.Run("in the same process", func(t *testing.T) {
		n := newMachine(t).start()
		if err := n.Configure(t.Context(), other); err == nil || !strings.Contains(err.Error(), "changed from 10.244.0.0/24 to 10.244.7.0/24") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("in another process", func(t *testing.T) {
		m := newMachine(t)
		if _, err := m.start().Setup(t.Context(), ref("a")); err != nil {
			t.Fatal(err)
		}
		before := m.kernel.State()
		err := New(m.cfg).Configure(t.Context(), other)
		if err == nil || !strings.Contains(err.Error(), "default/a (uid-a) runs with address 10.244.0.2") {
			t.Errorf("got %v; want the Pod that still runs", err)
		}
		if diff := cmp.Diff(before, m.kernel.State()); diff != "" {
			t.Errorf("the refused change was made in part:\n%s", diff)
		}
	})
	t.Run("but not for Pods that are gone", func(t *testing.T) {
		m := newMachine(t)
		if _, err := m.start().Setup(t.Context(), ref("a")); err != nil {
			t.Fatal(err)
		}
		m.kernel = fake.New() // the machine was restarted
		m.cfg.Kernel = m.kernel
		n := New(m.cfg)
		if err := n.Configure(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		if left := m.leaseFiles(); len(left) > 0 {
			t.Errorf("leases of the former range were left: %v", left)
		}
		p, err := n.Setup(t.Context(), ref("a"))
		if err != nil || p.Gateway != netip.MustParseAddr("10.244.7.1") || !other.Contains(p.IP) {
			t.Errorf("got %+v, %v; want it in the new range", p, err)
		}
	})
}

func TestConfigureChangesNothingTheSecondTime(t *testing.T) {
	m := newMachine(t)
	n := m.start()
	before := len(m.kernel.Calls())
	if err := n.Configure(t.Context(), podRange); err != nil {
		t.Fatal(err)
	}
	for _, call := range m.kernel.Calls()[before:] {
		op, _, _ := strings.Cut(call, " ")
		if !slices.Contains([]string{"Link", "Links", "Addrs", "Routes", "ListNamespaces", "SetSysctl"}, op) {
			t.Errorf("it called %s", call)
		}
	}
}

func TestConfigureRefusesAnInterfaceThatIsNotOurs(t *testing.T) {
	m := newMachine(t)
	m.kernel.AddDevice(netlinkx.Link{Name: "keelson0", Kind: "dummy"})
	err := New(m.cfg).Configure(t.Context(), podRange)
	if err == nil || !strings.Contains(err.Error(), "keelson0 is a dummy") {
		t.Errorf("got %v", err)
	}
}

func TestTeardownBeforeConfigureLeavesOnlyTheLease(t *testing.T) {
	m := newMachine(t)
	if _, err := m.start().Setup(t.Context(), ref("a")); err != nil {
		t.Fatal(err)
	}
	if err := New(m.cfg).Teardown(t.Context(), "uid-a"); err != nil {
		t.Fatal(err)
	}
	clean := newMachine(t)
	clean.start()
	if diff := cmp.Diff(clean.kernel.State(), m.kernel.State()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if err := m.start().Sweep(t.Context(), never); err != nil {
		t.Fatal(err)
	}
	if left := m.leaseFiles(); len(left) > 0 {
		t.Errorf("Sweep left %v", left)
	}
}

func TestLeaseThatCannotBeWrittenGivesNoAddress(t *testing.T) {
	m := newMachine(t)
	n := m.start()
	if err := os.RemoveAll(n.leaseDir()); err != nil {
		t.Fatal(err)
	}
	before := len(m.kernel.Calls())
	if _, err := n.Setup(t.Context(), ref("a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v; want that the lease could not be written", err)
	}
	if made := m.kernel.Calls()[before:]; len(made) > 0 {
		t.Errorf("the kernel was touched without a lease: %v", made)
	}
	if _, ok := n.Lookup("uid-a"); ok {
		t.Error("the address is leased")
	}
}

func TestLinkNamesFitAndDiffer(t *testing.T) {
	seen := map[string]int{}
	for i := range 10000 {
		name := linkName(types.UID(fmt.Sprintf("uid-%d", i)))
		if len(name) > maxLinkName || !isPodLink(name) {
			t.Fatalf("%q is no interface name of ours", name)
		}
		if other, twice := seen[name]; twice {
			t.Fatalf("%d and %d share %q", i, other, name)
		}
		seen[name] = i
	}
}

func TestCallsForOnePodWaitForEachOther(t *testing.T) {
	m := newMachine(t)
	n := m.start()
	clean := m.kernel.State()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				if _, err := n.Setup(t.Context(), ref("a")); err != nil {
					t.Error(err)
				}
				if err := n.Teardown(t.Context(), "uid-a"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(clean, m.kernel.State()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if left := m.leaseFiles(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if len(n.pods.held) > 0 {
		t.Errorf("locks of Pods that are gone were kept: %v", n.pods.held)
	}
}
