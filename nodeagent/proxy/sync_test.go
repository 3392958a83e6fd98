package proxy

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
	"github.com/keelson-dev/keelson/nodeagent/proxy/tracer"
)

// fates describes outcomes as "10.244.1.2:8080 forwarded masqueraded 50%".
func (n *fakeNode) fates(p tracer.Packet) []string {
	n.t.Helper()
	node := tracer.Node{Save: n.iptables.Dump(), Addresses: append(testFacts().NodeIPs, netip.MustParseAddr("10.244.1.1"))}
	outcomes, err := node.Trace(p)
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, o := range outcomes {
		text := o.To.String() + " " + o.Verdict
		if o.Masquerade {
			text += " masqueraded"
		}
		out = append(out, fmt.Sprintf("%s %.0f%%", text, math.Round(o.Probability*100)))
	}
	return out
}

func TestPacketFates(t *testing.T) {
	n := newFakeNode(t)
	n.input.hostPorts = []model.HostPort{{Pod: "default/a", Protocol: model.TCP, HostPort: 8000, Target: netip.MustParseAddrPort(podA + ":8080")}}
	n.sync(
		withNodePorts(service("both", "10.254.0.10", podA, podB), 30080, 30053),
		withNodePorts(service("empty", "10.254.0.12"), 30081, 30054),
		withAffinity(service("sticky", "10.254.0.13", podA, podB), 100),
		service("far", "10.254.0.14", "10.244.9.9"),
		service("three", "10.254.0.15", podA, podB, "10.244.1.4"),
		service("foreign", "10.96.0.1"),
	)
	sticky := service("sticky", "10.254.0.13").Ports[0]
	list := render.EndpointChain(&sticky, netip.MustParseAddrPort(podB+":8080"))
	for name, tc := range map[string]struct {
		from, to, in, protocol, state string
		lists                         []string
		want                          []string
	}{
		"a Pod spreads over the endpoints and is masqueraded to itself only": {from: podA, to: "10.254.0.10:80", in: "kls0",
			want: []string{podA + ":8080 forwarded masqueraded 50%", podB + ":8080 forwarded 50%"}},
		"UDP port of the same Service": {from: "10.244.1.9", to: "10.254.0.10:53", in: "kls0", protocol: "udp",
			want: []string{podA + ":8080 forwarded 50%", podB + ":8080 forwarded 50%"}},
		"three endpoints have a third each": {from: "10.244.1.9", to: "10.254.0.15:80", in: "kls0",
			want: []string{podA + ":8080 forwarded 33%", podB + ":8080 forwarded 33%", "10.244.1.4:8080 forwarded 33%"}},
		"from outside to a cluster address": {from: outsideIP, to: "10.254.0.14:80", in: "eth0",
			want: []string{"10.244.9.9:8080 forwarded masqueraded 100%"}},
		"the node with its own address to a cluster address": {from: nodeIP, to: "10.254.0.14:80",
			want: []string{"10.244.9.9:8080 sent masqueraded 100%"}},
		"the node with the bridge's address keeps it": {from: "10.244.1.1", to: "10.254.0.14:80",
			want: []string{"10.244.9.9:8080 sent 100%"}},
		"node port from outside": {from: outsideIP, to: nodeIP + ":30080", in: "eth0",
			want: []string{podA + ":8080 forwarded masqueraded 50%", podB + ":8080 forwarded masqueraded 50%"}},
		"node port on loopback": {from: "127.0.0.1", to: "127.0.0.1:30080",
			want: []string{podA + ":8080 sent masqueraded 50%", podB + ":8080 sent masqueraded 50%"}},
		"node port number on another machine is left alone": {from: podA, to: outsideIP + ":30080", in: "kls0",
			want: []string{outsideIP + ":30080 forwarded masqueraded 100%"}},
		"node port without endpoints":                           {from: outsideIP, to: nodeIP + ":30081", in: "eth0", want: []string{nodeIP + ":30081 rejected 100%"}},
		"cluster address without endpoints":                     {from: podA, to: "10.254.0.12:80", in: "kls0", want: []string{"10.254.0.12:80 rejected 100%"}},
		"cluster address without endpoints, from the node":      {from: nodeIP, to: "10.254.0.12:80", want: []string{"10.254.0.12:80 rejected 100%"}},
		"address that no Service has":                           {from: podA, to: "10.254.99.99:80", in: "kls0", want: []string{"10.254.99.99:80 rejected 100%"}},
		"port that the Service does not have":                   {from: podA, to: "10.254.0.10:81", in: "kls0", want: []string{"10.254.0.10:81 rejected 100%"}},
		"wrong protocol":                                        {from: podA, to: "10.254.0.10:53", in: "kls0", want: []string{"10.254.0.10:53 rejected 100%"}},
		"address outside of the Service range with no endpoint": {from: podA, to: "10.96.0.1:80", in: "kls0", want: []string{"10.96.0.1:80 rejected 100%"}},
		"a client without history":                              {from: "10.244.1.9", to: "10.254.0.13:80", in: "kls0", want: []string{podA + ":8080 forwarded 50%", podB + ":8080 forwarded 50%"}},
		"a client that stays with its endpoint":                 {from: "10.244.1.9", to: "10.254.0.13:80", in: "kls0", lists: []string{list}, want: []string{podB + ":8080 forwarded 100%"}},
		"host port from outside keeps the source":               {from: outsideIP, to: nodeIP + ":8000", in: "eth0", want: []string{podA + ":8080 forwarded 100%"}},
		"host port of the Pod itself":                           {from: podA, to: nodeIP + ":8000", in: "kls0", want: []string{podA + ":8080 forwarded masqueraded 100%"}},
		"a Pod to another Pod keeps its source":                 {from: podA, to: podB + ":8080", in: "kls0", want: []string{podB + ":8080 forwarded 100%"}},
		"a Pod to outside of the cluster":                       {from: podA, to: "203.0.113.1:443", in: "kls0", want: []string{"203.0.113.1:443 forwarded masqueraded 100%"}},
		"a Pod's multicast keeps its source":                    {from: podA, to: "224.0.0.251:5353", in: "kls0", protocol: "udp", want: []string{"224.0.0.251:5353 forwarded 100%"}},
		"the node to outside is none of our business":           {from: nodeIP, to: "203.0.113.1:443", want: []string{"203.0.113.1:443 sent 100%"}},
		"loopback from a wire":                                  {from: podA, to: "127.0.0.1:22", in: "kls0", want: []string{"127.0.0.1:22 dropped 100%"}},
		"an answer that conntrack cannot place":                 {from: podA, to: outsideIP + ":5555", in: "kls0", state: "INVALID", want: []string{outsideIP + ":5555 dropped 100%"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := tracer.Packet{From: netip.MustParseAddr(tc.from), To: netip.MustParseAddrPort(tc.to), In: tc.in, Protocol: tc.protocol, State: tc.state, Lists: tc.lists}
			if p.Protocol == "" {
				p.Protocol = "tcp"
			}
			sorted := cmpopts.SortSlices(strings.Compare)
			if diff := cmp.Diff(tc.want, (&fakeNode{t: t, iptables: n.iptables}).fates(p), sorted); diff != "" {
				t.Errorf("fates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOneEndpointWritesOneServiceOnly(t *testing.T) {
	n := newFakeNode(t)
	n.sync(manyServices(50, 3)...)
	saves := n.iptables.Saves
	n.sync(numberedService(7, 2))
	if n.iptables.Saves != saves {
		t.Errorf("the kernel was read again for one change")
	}
	var chains []string
	for line := range strings.Lines(n.iptables.LastInput) {
		if strings.HasPrefix(line, ":") {
			chains = append(chains, strings.Fields(line)[0][1:9])
		}
	}
	if diff := cmp.Diff([]string{"KLS-SVC-"}, chains); diff != "" {
		t.Errorf("chains written (-want +got):\n%s\nin %s", diff, n.iptables.LastInput)
	}
	n.sync(numberedService(7, 0))
	n.sync(numberedService(7, 1))
	if strings.Contains(n.iptables.LastInput, ":"+render.Services+" ") {
		t.Errorf("the shared chain was written because endpoints came and went")
	}
}

func TestSameStateWritesNothing(t *testing.T) {
	n := newFakeNode(t)
	n.sync(manyServices(3, 2)...)
	before := n.iptables.Restores
	n.sync(manyServices(3, 2)...)
	n.check()
	n.restart()
	n.sync(manyServices(3, 2)...)
	if n.iptables.Restores != before {
		t.Errorf("wrote %q though nothing changed", n.iptables.LastInput)
	}
}

func TestRestartRemovesWhatWentInBetween(t *testing.T) {
	n := newFakeNode(t)
	n.sync(manyServices(3, 2)...)
	n.restart()
	n.sync(manyServices(2, 2)...)
	restarted := n.iptables.Dump()
	fresh := newFakeNode(t)
	fresh.sync(manyServices(2, 2)...)
	if diff := cmp.Diff(fresh.iptables.Dump(), restarted); diff != "" {
		t.Errorf("after a restart (-fresh +restarted):\n%s", diff)
	}
}

func TestFailuresAreMadeUpFor(t *testing.T) {
	boom := errors.New("boom")
	wanted := newFakeNode(t)
	wanted.sync(numberedService(1, 2), service("dns", "10.254.9.9", podB))
	for name, fail := range map[string]func(n *fakeNode){
		"reading fails":   func(n *fakeNode) { n.iptables.FailSave = boom; n.syncer.driver.Invalidate() },
		"writing fails":   func(n *fakeNode) { n.iptables.FailRestore = boom },
		"conntrack fails": func(n *fakeNode) { n.cleanErr = boom },
	} {
		t.Run(name, func(t *testing.T) {
			n := newFakeNode(t)
			n.sync(numberedService(1, 3), service("dns", "10.254.9.9", podA))
			fail(n)
			if err := n.trySync(numberedService(1, 2), service("dns", "10.254.9.9", podB)); !errors.Is(err, boom) {
				t.Fatalf("got error %v, want boom", err)
			}
			cleaned := n.cleaned
			n.sync()
			if diff := cmp.Diff(wanted.iptables.Dump(), n.iptables.Dump()); diff != "" {
				t.Errorf("after the failure (-want +got):\n%s", diff)
			}
			if n.cleaned == cleaned {
				t.Error("stale UDP connections were not looked for again")
			}
		})
	}
}

func TestOnlyUDPChangesLookForStaleConnections(t *testing.T) {
	n := newFakeNode(t)
	n.sync(numberedService(1, 2), service("dns", "10.254.9.9", podA))
	before := n.cleaned
	n.sync(numberedService(1, 3))
	if n.cleaned != before {
		t.Error("a TCP change read the connection table")
	}
	n.sync(model.Service{Name: types.NamespacedName{Namespace: "default", Name: "dns"}})
	if n.cleaned != before+1 {
		t.Error("a deleted UDP Service did not")
	}
}

func TestLargeLoadInBlocks(t *testing.T) {
	plain, blocks := newFakeNode(t), newFakeNode(t)
	blocks.iptables.Backend = "(nf_tables)"
	plain.sync(manyServices(1000, 10)...)
	blocks.sync(manyServices(1000, 10)...)
	if got := strings.Count(blocks.iptables.LastInput, "COMMIT\n"); got < 5 {
		t.Errorf("%d transactions, want several", got)
	}
	if got := strings.Count(plain.iptables.LastInput, "COMMIT\n"); got != 2 {
		t.Errorf("%d transactions without nft, want one for each table", got)
	}
	blocks.iptables.Backend = ""
	if diff := cmp.Diff(plain.iptables.Dump(), blocks.iptables.Dump()); diff != "" {
		t.Errorf("the result differs (-plain +blocks):\n%s", diff)
	}
}

func TestNamesCannotBecomeRules(t *testing.T) {
	n := newFakeNode(t)
	svc := service("s", "10.254.0.10", podA)
	svc.Ports[0].Name.Port = "x\" -j ACCEPT\n-A INPUT -j ACCEPT\n#"
	n.sync(svc)
	if rules, _ := n.iptables.Rules("filter", "INPUT"); len(rules) != 4 {
		t.Errorf("a name added rules: %q", rules)
	}
}
