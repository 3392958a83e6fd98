package proxy

import (
	"context"
	"testing"

	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables/fake"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// fakeNode is a syncer over an iptables in memory.
type fakeNode struct {
	t        testing.TB
	iptables *fake.IPTables
	syncer   *syncer
	input    syncInput
	// cleaned counts calls of the conntrack cleaner; cleanErr is its next error.
	cleaned  int
	cleanErr error
}

type noSysctl struct{}

func (noSysctl) allowLoopback(context.Context) error { return nil }

func newFakeNode(t testing.TB) *fakeNode {
	n := &fakeNode{t: t, iptables: fake.New(), input: syncInput{facts: testFacts()}}
	n.restart()
	return n
}

// restart forgets everything but the kernel.
func (n *fakeNode) restart() {
	clean := func(*conntrack.Wanted) (int, error) {
		n.cleaned++
		err := n.cleanErr
		n.cleanErr = nil
		return 0, err
	}
	n.syncer = newSyncer(testFacts(), n.iptables, clean, noSysctl{}, newMetrics(), clock.RealClock{})
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
