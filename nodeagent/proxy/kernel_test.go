package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
)

// The tests of this file run the real iptables in network namespaces, once for each
// backend that the machine has.

func eachBackend(t *testing.T, run func(t *testing.T, n *testNode)) {
	eachBackendOf(t, model.IPv4, run)
}

func eachBackendOf(t *testing.T, family model.Family, run func(t *testing.T, n *testNode)) {
	for _, variant := range []string{"iptables-nft", "iptables-legacy"} {
		if family == model.IPv6 {
			variant = "ip6" + strings.TrimPrefix(variant, "ip")
		}
		t.Run(variant, func(t *testing.T) {
			if _, err := exec.LookPath(variant); err != nil {
				t.Skip(variant + " is not installed")
			}
			run(t, newTestNodeOf(t, family, variant))
		})
	}
}

// testNode is a syncer in the node's namespace of a lab.
type testNode struct {
	*lab
	family model.Family
	syncer *syncer
	input  syncInput
	// variant of iptables.
	variant string
	// before is what iptables-save printed before the first sync.
	before string
}

func testFacts() model.NodeFacts {
	return model.NodeFacts{
		ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
		PodCIDR:     netip.MustParsePrefix("10.244.1.0/24"),
		ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16"),

		ClusterCIDR6: netip.MustParsePrefix("fd00:10:244::/56"),
		PodCIDR6:     netip.MustParsePrefix("fd00:10:244:1::/64"),
		ServiceCIDR6: netip.MustParsePrefix("fd00:10:254::/112"),

		NodeIPs: []netip.Addr{netip.MustParseAddr(nodeIP), netip.MustParseAddr(nodeIP6)},
	}
}

// renderFacts are testFacts as the rules of a family see them.
func renderFacts(family model.Family) render.Facts {
	f := render.NewFacts(family, testFacts())
	f.Node, f.Zone = thisNode, thisZone
	return f
}

const (
	thisNode = "node-1"
	thisZone = "zone-1"
)

func newTestNode(t testing.TB, variant string) *testNode {
	return newTestNodeOf(t, model.IPv4, variant)
}

func newTestNodeOf(t testing.TB, family model.Family, variant string) *testNode {
	n := &testNode{lab: newLab(t), family: family, variant: variant, input: syncInput{facts: renderFacts(family)}}
	n.syncer = n.newSyncer()
	return n
}

// newSyncer is what another process would start with.
func (n *testNode) newSyncer() *syncer {
	p := parts{
		executor: iptables.Commands{Variant: n.variant}, clean: conntrack.Clean, health: &fakeHealth{},
		sysctl: kernelSysctl{podInterfaces: "kls"}, metrics: newMetrics(), clock: clock.RealClock{},
	}
	if n.family == model.IPv6 {
		p.sysctl = nothingToSet{}
	}
	return newSyncer(n.family, p)
}

// sync takes in Services and writes.
func (n *testNode) sync(services ...model.Service) {
	n.t.Helper()
	n.input.services, n.input.check = services, false
	n.syncNow()
}

func (n *testNode) check() {
	n.t.Helper()
	n.input.services, n.input.check = nil, true
	n.syncNow()
}

func (n *testNode) syncNow() {
	n.t.Helper()
	var err error
	n.in("node", func() { err = n.syncer.sync(context.Background(), n.input) })
	if err != nil {
		n.t.Fatal(err)
	}
}

// iptables runs a command in the node's namespace.
func (n *testNode) iptables(args ...string) string {
	n.t.Helper()
	var out string
	n.in("node", func() { out = n.run(n.variant, args...) })
	return out
}

func (n *testNode) save() string {
	n.t.Helper()
	var out string
	n.in("node", func() { out = n.run(n.variant + "-save") })
	return out
}

// want checks the answer.
func (n *testNode) want(ns, network, address, want string) {
	n.t.Helper()
	patience := 3 * time.Second
	if want == "timeout" {
		patience = 500 * time.Millisecond // an answer takes one
	}
	if got := n.askWithin(ns, network, address, 0, patience); got != want {
		n.t.Errorf("from %s to %s %s: got %q, want %q", ns, network, address, got, want)
	}
}

// wantAll asks until every wanted answer came, and checks that no other comes.
func (n *testNode) wantAll(ns, network, address string, want ...string) {
	n.t.Helper()
	seen := map[string]bool{}
	for range 200 {
		answer := n.ask(ns, network, address)
		if !slices.Contains(want, answer) {
			n.t.Errorf("from %s to %s %s: got %q, want one of %q", ns, network, address, answer, want)
			return
		}
		if seen[answer] = true; len(seen) == len(want) {
			return
		}
	}
	n.t.Errorf("from %s to %s %s: only %v answered, want all of %q", ns, network, address, seen, want)
}

// service builds a Service with one port 80 on TCP and one port 53 on UDP.
func service(name, clusterIP string, endpoints ...string) model.Service {
	key := types.NamespacedName{Namespace: "default", Name: name}
	tcp := model.ServicePort{
		Name: model.PortName{Service: key, Port: "web"}, Protocol: model.TCP,
		ClusterIP: netip.MustParseAddr(clusterIP), Port: 80,
	}
	udp := tcp
	udp.Name.Port, udp.Protocol, udp.Port = "dns", model.UDP, 53
	for _, e := range endpoints {
		address := netip.AddrPortFrom(netip.MustParseAddr(e), 8080)
		tcp.Endpoints = append(tcp.Endpoints, readyEndpoint(address))
		udp.Endpoints = append(udp.Endpoints, readyEndpoint(address))
	}
	return model.Service{Name: key, Ports: []model.ServicePort{tcp, udp}}
}

// readyEndpoint is one that answers, of this node when it is in its Pod range.
func readyEndpoint(address netip.AddrPort) model.Endpoint {
	facts := testFacts()
	return model.Endpoint{Address: address, Ready: true, Serving: true,
		Local: facts.PodCIDR.Contains(address.Addr()) || facts.PodCIDR6.Contains(address.Addr())}
}

func withNodePorts(svc model.Service, tcp, udp uint16) model.Service {
	svc.Ports = slices.Clone(svc.Ports)
	svc.Ports[0].NodePort, svc.Ports[1].NodePort = tcp, udp
	return svc
}

func withAffinity(svc model.Service, seconds int32) model.Service {
	svc.Ports = slices.Clone(svc.Ports)
	for i := range svc.Ports {
		svc.Ports[i].AffinitySeconds = seconds
	}
	return svc
}

func TestKernelServices(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.serve("b", "b", ":8080")
		n.serve("out", "outside", ":9090")
		n.before = n.save()
		n.sync(
			withNodePorts(service("both", "10.254.0.10", podA, podB), 30080, 30053),
			service("only-a", "10.254.0.11", podA),
			withNodePorts(service("empty", "10.254.0.12"), 30081, 30054),
			withAffinity(service("sticky", "10.254.0.13", podA, podB), 100),
			withNodePorts(service("outside", "10.254.0.14"), 30082, 0),
		)

		for _, network := range []string{"tcp", "udp"} {
			port, nodePort, emptyPort := ":80", ":30080", ":30081"
			if network == "udp" {
				port, nodePort, emptyPort = ":53", ":30053", ":30054"
			}
			t.Run(network+": a Pod reaches every endpoint and keeps its address", func(t *testing.T) {
				n.want("b", network, "10.254.0.11"+port, "a from "+podB)
				n.wantAll("b", network, "10.254.0.10"+port, "a from "+podB, "b from 10.244.1.1")
			})
			t.Run(network+": a Pod reaches itself through the node's address", func(t *testing.T) {
				n.want("a", network, "10.254.0.11"+port, "a from 10.244.1.1")
			})
			t.Run(network+": the node reaches a cluster address", func(t *testing.T) {
				n.want("node", network, "10.254.0.11"+port, "a from 10.244.1.1")
			})
			t.Run(network+": a machine outside reaches a cluster address routed to the node", func(t *testing.T) {
				n.want("out", network, "10.254.0.11"+port, "a from 10.244.1.1")
			})
			t.Run(network+": node port from outside, a Pod, the node and loopback", func(t *testing.T) {
				for _, ns := range []string{"out", "a", "node"} {
					n.wantAll(ns, network, nodeIP+nodePort, "a from 10.244.1.1", "b from 10.244.1.1")
				}
				n.wantAll("node", network, "127.0.0.1"+nodePort, "a from 10.244.1.1", "b from 10.244.1.1")
			})
			t.Run(network+": no endpoints, no such Service and no such port are refused at once", func(t *testing.T) {
				for _, ns := range []string{"a", "node", "out"} {
					for _, address := range []string{"10.254.0.12" + port, "10.254.77.77" + port, "10.254.0.10:81"} {
						n.want(ns, network, address, "refused")
					}
					n.want(ns, network, nodeIP+emptyPort, "refused")
				}
				n.want("node", network, "127.0.0.1"+emptyPort, "refused")
			})
			t.Run(network+": a client keeps its endpoint", func(t *testing.T) {
				first := n.ask("out", network, "10.254.0.13"+port)
				for range 20 {
					n.want("out", network, "10.254.0.13"+port, first)
				}
			})
			t.Run(network+": a Pod leaves the cluster with the node's address", func(t *testing.T) {
				n.want("a", network, outsideIP+":9090", "outside from "+nodeIP)
			})
		}
		n.checkCleanup()
	})
}

// checkCleanup removes the rules and checks that nothing of them is left.
func (n *testNode) checkCleanup() {
	n.t.Helper()
	var err error
	n.in("node", func() { err = iptables.Cleanup(context.Background(), iptables.Commands{Variant: n.variant}) })
	if err != nil {
		n.t.Fatal(err)
	}
	if diff := cmp.Diff(rulesOnly(n.before), rulesOnly(n.save())); diff != "" {
		n.t.Errorf("rules left after cleanup (-before +after):\n%s", diff)
	}
}

// rulesOnly takes dates, counters and unused built-in chains out of iptables-save.
func rulesOnly(save string) []string {
	var out []string
	for line := range strings.Lines(save) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "-A") || (strings.HasPrefix(line, ":") && strings.Contains(line, " - ")) {
			name, _, _ := strings.Cut(line, " [")
			out = append(out, name)
		}
	}
	return out
}

func TestKernelAffinityEnds(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.serve("b", "b", ":8080")
		n.sync(withAffinity(service("sticky", "10.254.0.13", podA, podB), 1))
		first := n.ask("out", "tcp", "10.254.0.13:80")
		for range 30 {
			time.Sleep(1100 * time.Millisecond) // the time of the affinity is what is tested
			if n.ask("out", "tcp", "10.254.0.13:80") != first {
				return
			}
		}
		t.Errorf("30 times after the end of its affinity a client still got %q", first)
	})
}

func TestKernelForgetsUDP(t *testing.T) {
	const from = 40000
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.serve("b", "b", ":8080")
		ask := func(address, want string) {
			t.Helper()
			if got := n.askFrom("out", "udp", address, from); got != want {
				t.Errorf("to %s: got %q, want %q", address, got, want)
			}
		}
		n.sync(withNodePorts(service("dns", "10.254.0.10", podA), 30080, 30053))
		ask("10.254.0.10:53", "a from 10.244.1.1")
		ask(nodeIP+":30053", "a from 10.244.1.1")
		n.sync(withNodePorts(service("dns", "10.254.0.10", podB), 30080, 30053))
		ask("10.254.0.10:53", "b from 10.244.1.1")
		ask(nodeIP+":30053", "b from 10.244.1.1")
		n.sync(withNodePorts(service("dns", "10.254.0.10"), 30080, 30053))
		ask("10.254.0.10:53", "refused")
		ask(nodeIP+":30053", "refused")
		n.sync(withNodePorts(service("dns", "10.254.0.10", podA), 30080, 30053))
		ask("10.254.0.10:53", "a from 10.244.1.1")
		n.sync(model.Service{Name: types.NamespacedName{Namespace: "default", Name: "dns"}})
		ask("10.254.0.10:53", "refused")
		ask(nodeIP+":30053", "refused")
	})
}

func TestKernelHostPorts(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.before = n.save()
		n.input.hostPorts = []model.HostPort{
			{Pod: "default/a", Protocol: model.TCP, HostPort: 8000, Target: netip.MustParseAddrPort(podA + ":8080")},
			{Pod: "default/a", Protocol: model.UDP, HostPort: 8000, Target: netip.MustParseAddrPort(podA + ":8080")},
			{Pod: "default/a", Protocol: model.TCP, HostPort: 8001, HostIP: netip.MustParseAddr("127.0.0.1"), Target: netip.MustParseAddrPort(podA + ":8080")},
		}
		n.sync()
		for _, network := range []string{"tcp", "udp"} {
			n.want("out", network, nodeIP+":8000", "a from "+outsideIP)
			n.want("b", network, nodeIP+":8000", "a from "+podB)
			n.want("a", network, nodeIP+":8000", "a from 10.244.1.1")
			n.want("node", network, "127.0.0.1:8000", "a from 10.244.1.1")
		}
		n.want("node", "tcp", "127.0.0.1:8001", "a from 10.244.1.1")
		n.want("out", "tcp", nodeIP+":8001", "refused")
		n.input.hostPorts = nil
		n.sync()
		n.want("out", "tcp", nodeIP+":8000", "refused")
		n.checkCleanup()
	})
}

func TestKernelRepair(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.sync(service("only-a", "10.254.0.11", podA))
		wanted := rulesOnly(n.save())
		for name, damage := range map[string][][]string{
			"everything flushed":     {{"-t", "nat", "-F"}, {"-t", "filter", "-F"}},
			"chains deleted as well": {{"-t", "nat", "-F"}, {"-t", "nat", "-X"}, {"-t", "filter", "-F"}, {"-t", "filter", "-X"}},
			"a jump deleted":         {{"-t", "nat", "-D", "PREROUTING", "1"}},
			"a rule deleted":         {{"-t", "nat", "-D", "KLS-SERVICES", "1"}},
			"a rule added":           {{"-t", "nat", "-I", "KLS-SERVICES", "1", "-j", "RETURN"}},
			"a jump repeated":        {{"-t", "nat", "-I", "PREROUTING", "1", "-m", "comment", "--comment", "keelson service portals kls:" + jumpHash(t, "PREROUTING"), "-j", "KLS-SERVICES"}},
		} {
			t.Run(name, func(t *testing.T) {
				for _, args := range damage {
					n.iptables(args...)
				}
				if cmp.Equal(wanted, rulesOnly(n.save())) {
					t.Fatal("the damage changed nothing")
				}
				n.check()
				if diff := cmp.Diff(wanted, rulesOnly(n.save())); diff != "" {
					t.Errorf("not repaired (-want +got):\n%s", diff)
				}
				n.want("b", "tcp", "10.254.0.11:80", "a from "+podB)
			})
		}
	})
}

func TestKernelForeignRules(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		// Docker's way: the FORWARD policy is DROP, and chains of others are there.
		n.iptables("-P", "FORWARD", "DROP")
		n.iptables("-t", "nat", "-N", "KUBE-SERVICES")
		n.iptables("-t", "nat", "-A", "PREROUTING", "-j", "KUBE-SERVICES")
		n.iptables("-t", "nat", "-A", "KUBE-SERVICES", "-d", "10.96.0.1/32", "-p", "tcp", "-j", "DNAT", "--to-destination", "192.0.2.9:1")
		n.iptables("-N", "DOCKER-USER")
		n.iptables("-A", "FORWARD", "-j", "DOCKER-USER")
		n.before = n.save()
		n.sync(withNodePorts(service("only-a", "10.254.0.11", podA), 30080, 30053))
		n.want("b", "tcp", "10.254.0.11:80", "a from "+podB)
		n.want("out", "tcp", nodeIP+":30080", "a from 10.244.1.1")
		n.checkCleanup()
		if !strings.Contains(n.save(), ":FORWARD DROP") {
			t.Error("the FORWARD policy changed")
		}
	})
}

func TestKernelRestartWritesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		services := []model.Service{
			withNodePorts(service("both", "10.254.0.10", podA, podB), 30080, 30053),
			withAffinity(service("sticky", "10.254.0.13", podA, podB), 100),
		}
		n.sync(services...)
		next := n.newSyncer()
		next.takeIn(syncInput{facts: renderFacts(model.IPv4), services: services})
		var result iptables.Result
		var err error
		n.in("node", func() { result, err = next.driver.Apply(context.Background()) })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(iptables.Result{Full: true}, result); diff != "" {
			t.Errorf("the second process (-want +got):\n%s", diff)
		}
	})
}

func TestKernelLoopbackStaysPrivate(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serveTCP("node", "secret", "127.0.0.1:7000")
		n.sync()
		n.want("node", "tcp", "127.0.0.1:7000", "secret from 127.0.0.1")
		// A Pod that routes loopback addresses to the node must not get there.
		n.ip("a", "route add 127.0.0.0/8 via 10.244.1.1 table 100")
		n.ip("a", "rule add pref 0 to 127.0.0.0/8 table 100")
		n.ip("a", "rule del pref 0 table local")
		n.ip("a", "rule add pref 1 table local")
		n.in("a", func() { n.write("/proc/sys/net/ipv4/conf/all/route_localnet", "1") })
		n.want("a", "tcp", "127.0.0.1:7000", "timeout")
		// Without the guard it would: the test can fail.
		n.iptables("-F", "KLS-FIREWALL")
		n.want("a", "tcp", "127.0.0.1:7000", "secret from "+podA)
		n.check()
		n.want("a", "tcp", "127.0.0.1:7000", "timeout")
	})
}

func jumpHash(t *testing.T, chain string) string {
	t.Helper()
	fake := newFakeNode(t)
	fake.sync()
	rules, _ := fake.iptables.Rules("nat", chain)
	_, after, ok := strings.Cut(strings.Join(rules, "\n"), "kls:")
	if !ok || len(after) < 13 {
		t.Fatalf("no mark in %v", rules)
	}
	return after[:13]
}

// TestKernelTimeToRule shows how long a change takes; it fails only when it never comes.
func TestKernelTimeToRule(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.sync(service("s", "10.254.0.11", podA))
		start := time.Now()
		n.sync(service("s", "10.254.0.11", podB))
		t.Logf("one endpoint change: %v", time.Since(start).Round(time.Millisecond))
		if want := fmt.Sprintf("--to-destination %s:8080", podB); !strings.Contains(n.save(), want) {
			t.Errorf("no rule with %q", want)
		}
	})
}
