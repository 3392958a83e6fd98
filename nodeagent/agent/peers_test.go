package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/node"
)

// peerNode is a Node with internal addresses and Pod ranges, each written with commas.
func peerNode(name, ips, cidrs string) *keelsonv1.Node {
	n := &keelsonv1.Node{}
	n.Name = name
	for ip := range strings.SplitSeq(ips, ",") {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	n.Spec.PodCIDRs = strings.Split(cidrs, ",")
	n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	return n
}

func TestToPeer(t *testing.T) {
	outside := peerNode("a", "192.0.2.1", "10.244.0.0/24")
	outside.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "198.51.100.1"}, {Type: corev1.NodeHostName, Address: "a"}}, outside.Status.Addresses...)
	old := peerNode("a", "192.0.2.1", "10.244.0.0/24")
	old.Spec.PodCIDRs = nil
	tests := map[string]struct {
		node       *keelsonv1.Node
		ips, cidrs []string
	}{
		"one of each family":                  {peerNode("a", "2001:db8::1,192.0.2.1", "fd00::/64,10.244.0.0/24"), []string{"2001:db8::1", "192.0.2.1"}, []string{"fd00::/64", "10.244.0.0/24"}},
		"internal addresses count":            {outside, []string{"192.0.2.1"}, []string{"10.244.0.0/24"}},
		"the first of a family counts":        {peerNode("a", "192.0.2.1,192.0.2.2", "10.244.0.0/24"), []string{"192.0.2.1"}, []string{"10.244.0.0/24"}},
		"spec.podCIDR alone":                  {old, []string{"192.0.2.1"}, []string{"10.244.0.0/24"}},
		"nothing yet":                         {peerNode("a", "", ""), nil, nil},
		"what cannot be parsed is left":       {peerNode("a", "here,192.0.2.1", "10.244.0.0,10.244.0.1/24"), []string{"192.0.2.1"}, nil},
		"two ranges of a family are too many": {peerNode("a", "192.0.2.1", "10.244.0.0/24,10.244.9.0/24"), []string{"192.0.2.1"}, []string{"10.244.0.0/24"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			stripped, err := stripPeer(tc.node.DeepCopy())
			if err != nil {
				t.Fatal(err)
			}
			got := toPeer(stripped.(*keelsonv1.Node))
			var ips []string
			for _, ip := range got.IPs {
				ips = append(ips, ip.String())
			}
			if diff := cmp.Diff(tc.ips, ips); diff != "" || !slices.Equal(got.Ranges.Strings(), tc.cidrs) || got.Name != "a" {
				t.Errorf("got %+v, want %v and %v", got, tc.ips, tc.cidrs)
			}
		})
	}
}

func TestHeartbeatsOfOtherNodesChangeNothing(t *testing.T) {
	p := newPeers()
	n := peerNode("b", "192.0.2.2", "10.244.1.0/24")
	if !p.put(toPeer(n)) {
		t.Error("a new node changes nothing")
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
	if p.put(toPeer(n)) {
		t.Error("a condition changes something")
	}
	if !p.put(toPeer(peerNode("b", "192.0.2.9", "10.244.1.0/24"))) {
		t.Error("another address changes nothing")
	}
	if _, known := p.list(); known {
		t.Error("all nodes are known before they have been listed")
	}
}

func TestProblemsAreToldOnce(t *testing.T) {
	p := newPeers()
	b, c := overlay.Problem{Node: "b", Message: "far"}, overlay.Problem{Node: "c", Message: "far"}
	for i, step := range []struct{ problems, want []overlay.Problem }{
		{[]overlay.Problem{b}, []overlay.Problem{b}},
		{[]overlay.Problem{b, c}, []overlay.Problem{c}},
		{[]overlay.Problem{c}, nil},
		{[]overlay.Problem{b, c}, []overlay.Problem{b}},
	} {
		if got := p.news(step.problems); !slices.Equal(got, step.want) {
			t.Errorf("step %d: told %v, want %v", i, got, step.want)
		}
	}
}

// peersNetwork notes what it was told of other nodes.
type peersNetwork struct {
	*fakeNetwork
	err   error
	calls [][]overlay.Node
}

func (n *peersNetwork) SetPeers(_ context.Context, nodes []overlay.Node, _ bool) ([]overlay.Problem, error) {
	n.calls = append(n.calls, nodes)
	return nil, n.err
}

func TestRoutesThatCannotBeSet(t *testing.T) {
	network := &peersNetwork{fakeNetwork: &fakeNetwork{}, err: errors.New("no tunnel")}
	a := &agent{dependencies: dependencies{network: network, clock: clock.RealClock{}}, options: NewOptions(), peers: newPeers(),
		configure: make(chan struct{}, 1), sweepNow: make(chan struct{}, 1)}
	a.settings.ips = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	a.condition.networkProblem = "no Pod range yet"
	a.reporter = node.NewReporter(nil, clock.RealClock{}, "n", func() node.Facts { return node.Facts{} }, func(node.Note) {})

	if got := a.condition.routes(); got != "no Pod range yet" {
		t.Errorf("before the network is there the Node says %q", got)
	}
	if err := a.configureNetwork(t.Context(), "10.244.0.0/24"); err != nil || len(network.calls) > 0 {
		t.Errorf("before all nodes are known: %v, told %v; want none taken away", err, network.calls)
	}
	a.peers.known = true
	if err := a.configureNetwork(t.Context(), "10.244.0.0/24"); err == nil || len(network.calls) != 1 {
		t.Errorf("got %v after %d calls, want the tunnel's error", err, len(network.calls))
	}
	if c := &a.condition; c.networkProblem != "" || c.routeProblem != "no tunnel" {
		t.Errorf("condition: network %q, route %q; want Pods to run here all the same", c.networkProblem, c.routeProblem)
	}
	network.err = nil
	if err := a.configureNetwork(t.Context(), "10.244.0.0/24"); err != nil || a.condition.routes() != "" {
		t.Errorf("got %v, route problem %q; want it solved", err, a.condition.routes())
	}
	if err := a.configureNetwork(t.Context(), "10.244.0.0"); err == nil || !strings.Contains(a.condition.networkProblem, "spec.podCIDRs of the Node") {
		t.Errorf("a bad range: %v, problem %q", err, a.condition.networkProblem)
	}
}
