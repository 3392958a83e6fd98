package proxy

import (
	"context"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/healthcheck"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables/fake"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// fakeNode is a syncer over an iptables in memory.
type fakeNode struct {
	t        testing.TB
	family   model.Family
	iptables *fake.IPTables
	syncer   *syncer
	input    syncInput
	// cleaned counts calls of the conntrack cleaner; cleanErr is its next error.
	cleaned  int
	cleanErr error
	health   fakeHealth
}

// fakeHealth notes what health checks should say.
type fakeHealth struct {
	services  map[types.NamespacedName]healthcheck.Service
	addresses []netip.Addr
	calls     int
}

func (h *fakeHealth) Sync(_ context.Context, services map[types.NamespacedName]healthcheck.Service, addresses []netip.Addr) error {
	h.services, h.addresses = services, addresses
	h.calls++
	return nil
}

func (*fakeHealth) Close() {}

func newFakeNode(t testing.TB) *fakeNode { return newFakeNodeOf(t, model.IPv4) }

func newFakeNodeOf(t testing.TB, family model.Family) *fakeNode {
	n := &fakeNode{t: t, family: family, iptables: fake.New(), input: syncInput{facts: renderFacts(family)}}
	n.restart()
	return n
}

// restart forgets everything but the kernel.
func (n *fakeNode) restart() {
	clean := func(model.Family, *conntrack.Wanted) (int, error) {
		n.cleaned++
		err := n.cleanErr
		n.cleanErr = nil
		return 0, err
	}
	n.syncer = newSyncer(n.family, parts{
		executor: n.iptables, clean: clean, sysctl: nothingToSet{}, health: &n.health,
		metrics: newMetrics(), clock: clock.RealClock{},
	})
}

func (n *fakeNode) trySync(services ...model.Service) error {
	n.input.services = services
	return n.syncer.sync(context.Background(), n.input)
}

func (n *fakeNode) sync(services ...model.Service) {
	n.t.Helper()
	n.input.check = false
	if err := n.trySync(services...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *fakeNode) check() {
	n.t.Helper()
	n.input.check = true
	if err := n.trySync(); err != nil {
		n.t.Fatal(err)
	}
}
