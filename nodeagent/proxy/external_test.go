package proxy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/healthcheck"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
	"github.com/keelson-dev/keelson/nodeagent/proxy/tracer"
)

// sixOf translates the IPv4 addresses of these tests, so that each case runs for both
// families.
func sixOf(a netip.Addr) netip.Addr {
	b := a.As4()
	for four, six := range map[string]string{
		"10.244.0.0/16": "fd00:10:244:%x::%x", "10.254.0.0/16": "fd00:10:254::%x:%x", "10.96.0.0/16": "fd00:96::%x:%x",
		"192.0.2.0/24": "fd00:192::%x%x", "203.0.113.0/24": "2001:db8::%x:%x", "198.51.100.0/24": "2001:db8:51:%x::%x",
	} {
		if netip.MustParsePrefix(four).Contains(a) {
			if strings.HasPrefix(four, "192") {
				return netip.MustParseAddr(fmt.Sprintf("fd00:192::%x", b[3]))
			}
			return netip.MustParseAddr(fmt.Sprintf(six, b[2], b[3]))
		}
	}
	panic("no IPv6 address for " + a.String())
}

// in translates an address or address and port to a family.
func in(family model.Family, text string) netip.AddrPort {
	ap, err := netip.ParseAddrPort(text)
	if err != nil {
		ap = netip.AddrPortFrom(netip.MustParseAddr(text), 0)
	}
	if family == model.IPv6 {
		return netip.AddrPortFrom(sixOf(ap.Addr()), ap.Port())
	}
	return ap
}

func eachFamily(t *testing.T, run func(t *testing.T, family model.Family)) {
	for _, family := range []model.Family{model.IPv4, model.IPv6} {
		t.Run(family.String(), func(t *testing.T) { run(t, family) })
	}
}

// makeService is one TCP port of a Service in a family; endpoints are addresses, with
// "!" in front when they terminate and still serve.
func makeService(family model.Family, name, clusterIP string, endpoints []string, change func(*model.ServicePort)) model.Service {
	key := types.NamespacedName{Namespace: "default", Name: name}
	p := model.ServicePort{Name: model.PortName{Service: key, Port: "web"}, Protocol: model.TCP, ClusterIP: in(family, clusterIP).Addr(), Port: 80}
	for _, text := range endpoints {
		address, terminating := strings.CutPrefix(text, "!")
		e := readyEndpoint(netip.AddrPortFrom(in(family, address).Addr(), 8080))
		e.Ready, e.Terminating = !terminating, terminating
		p.Endpoints = append(p.Endpoints, e)
	}
	if change != nil {
		change(&p)
	}
	for _, list := range [][]netip.Addr{p.ExternalIPs, p.LoadBalancerIPs} {
		for i := range list {
			list[i] = in(family, list[i].String()).Addr()
		}
	}
	if family == model.IPv6 {
		for i, r := range p.SourceRanges {
			p.SourceRanges[i] = netip.PrefixFrom(sixOf(r.Addr()), 64)
		}
	}
	return model.Service{Name: key, Ports: []model.ServicePort{p}}
}

func ips(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

const (
	remotePod = "10.244.9.9"
	clientIP  = "198.51.100.7"
	otherPod  = "10.244.1.99"
)

// fatesIn describes outcomes as fates does, of a packet between IPv4 addresses that stand
// for those of a family, and back.
func (n *fakeNode) fatesIn(from, to, iface, protocol string) []string {
	n.t.Helper()
	node := tracer.Node{Save: n.iptables.Dump(), Addresses: append(testFacts().NodeIPs, in(n.family, "10.244.1.1").Addr())}
	outcomes, err := node.Trace(tracer.Packet{From: in(n.family, from).Addr(), To: in(n.family, to), In: iface, Protocol: protocol})
	if err != nil {
		n.t.Fatal(err)
	}
	names := map[netip.Addr]string{}
	for _, text := range []string{podA, podB, remotePod, otherPod, nodeIP, in(model.IPv4, to).Addr().String()} {
		names[in(n.family, text).Addr()] = text
	}
	var out []string
	for _, o := range outcomes {
		text := fmt.Sprintf("%s:%d %s", names[o.To.Addr()], o.To.Port(), o.Verdict)
		if o.Masquerade {
			text += " masqueraded"
		}
		out = append(out, fmt.Sprintf("%s %.0f%%", text, math.Round(o.Probability*100)))
	}
	return out
}

func externalServices(f model.Family) []model.Service {
	both, remote := []string{podA, remotePod}, []string{remotePod}
	local := func(p *model.ServicePort) { p.ExternalLocal = true }
	build := func(name, ip string, endpoints []string, changes ...func(*model.ServicePort)) model.Service {
		return makeService(f, name, ip, endpoints, func(p *model.ServicePort) {
			for _, change := range changes {
				change(p)
			}
		})
	}
	external := func(ip string) func(*model.ServicePort) {
		return func(p *model.ServicePort) { p.ExternalIPs = ips(ip) }
	}
	balancer := func(ip string, nodePort uint16, ranges ...string) func(*model.ServicePort) {
		return func(p *model.ServicePort) {
			p.LoadBalancerIPs, p.NodePort = ips(ip), nodePort
			for _, r := range ranges {
				p.SourceRanges = append(p.SourceRanges, netip.MustParsePrefix(r))
			}
		}
	}
	sctp := build("sctp", "10.254.0.9", remote, external("203.0.113.9"))
	sctp.Ports[0].Protocol = model.SCTP
	return []model.Service{
		build("ext", "10.254.0.1", both, external("203.0.113.1")),
		build("lb", "10.254.0.2", both, balancer("203.0.113.2", 30100, "198.51.100.0/24")),
		build("lb-local", "10.254.0.3", both, local, balancer("203.0.113.3", 30101)),
		build("lb-remote", "10.254.0.4", remote, local, balancer("203.0.113.4", 30102), external("203.0.113.5")),
		build("empty", "10.254.0.5", nil, balancer("203.0.113.6", 30103, "198.51.100.0/24"), external("203.0.113.7")),
		build("lb-node", "10.254.0.6", both, balancer("203.0.113.8", 0, "192.0.2.0/24")),
		build("int-local", "10.254.0.7", both, func(p *model.ServicePort) { p.InternalLocal = true }),
		build("int-remote", "10.254.0.8", remote, func(p *model.ServicePort) { p.InternalLocal = true }),
		build("stopping", "10.254.0.10", []string{"!" + podA, remotePod}, local, balancer("203.0.113.10", 30104)),
		build("stopped", "10.254.0.11", []string{"!" + podA, "!" + remotePod}),
		sctp,
	}
}

func TestFatesFromOutside(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		n := newFakeNodeOf(t, family)
		n.sync(externalServices(family)...)
		half := func(how string) []string {
			return []string{podA + ":8080 " + how + " 50%", remotePod + ":8080 " + how + " 50%"}
		}
		all := func(to, how string) []string { return []string{to + " " + how + " 100%"} }
		for name, tc := range map[string]struct {
			from, to, in, protocol string
			want                   []string
		}{
			"external address from outside":              {from: clientIP, to: "203.0.113.1:80", in: "eth0", want: half("forwarded masqueraded")},
			"external address from a Pod":                {from: otherPod, to: "203.0.113.1:80", in: "kls0", want: half("forwarded masqueraded")},
			"external address from the node":             {from: nodeIP, to: "203.0.113.1:80", want: half("sent masqueraded")},
			"another port of an external address":        {from: clientIP, to: "203.0.113.1:81", in: "eth0", want: all("203.0.113.1:81", "forwarded")},
			"balancer's address, allowed client":         {from: clientIP, to: "203.0.113.2:80", in: "eth0", want: half("forwarded masqueraded")},
			"balancer's address, other client":           {from: "203.0.113.99", to: "203.0.113.2:80", in: "eth0", want: all("203.0.113.2:80", "dropped")},
			"balancer's address, from the node":          {from: nodeIP, to: "203.0.113.2:80", want: all("203.0.113.2:80", "dropped")},
			"source ranges are not for node ports":       {from: "203.0.113.99", to: nodeIP + ":30100", in: "eth0", want: half("forwarded masqueraded")},
			"source ranges are not for cluster IPs":      {from: otherPod, to: "10.254.0.2:80", in: "kls0", want: half("forwarded")},
			"source ranges with the node":                {from: nodeIP, to: "203.0.113.8:80", want: half("sent masqueraded")},
			"the node from the balancer's own address":   {from: "203.0.113.8", to: "203.0.113.8:80", want: half("sent masqueraded")},
			"local policy keeps the client's address":    {from: clientIP, to: "203.0.113.3:80", in: "eth0", want: all(podA+":8080", "forwarded")},
			"local policy, node port":                    {from: clientIP, to: nodeIP + ":30101", in: "eth0", want: all(podA+":8080", "forwarded")},
			"local policy, from a Pod":                   {from: otherPod, to: "203.0.113.3:80", in: "kls0", want: half("forwarded")},
			"local policy, from the node":                {from: nodeIP, to: "203.0.113.3:80", want: half("sent masqueraded")},
			"local policy, from the endpoint itself":     {from: podA, to: "203.0.113.3:80", in: "kls0", want: []string{podA + ":8080 forwarded masqueraded 50%", remotePod + ":8080 forwarded 50%"}},
			"local policy, cluster IP goes anywhere":     {from: otherPod, to: "10.254.0.3:80", in: "kls0", want: half("forwarded")},
			"local policy without local endpoints":       {from: clientIP, to: "203.0.113.4:80", in: "eth0", want: all("203.0.113.4:80", "dropped")},
			"the same by external address":               {from: clientIP, to: "203.0.113.5:80", in: "eth0", want: all("203.0.113.5:80", "dropped")},
			"the same by node port":                      {from: clientIP, to: nodeIP + ":30102", in: "eth0", want: all(nodeIP+":30102", "dropped")},
			"the same from a Pod":                        {from: otherPod, to: "203.0.113.4:80", in: "kls0", want: all(remotePod+":8080", "forwarded")},
			"the same from the node to its node port":    {from: nodeIP, to: nodeIP + ":30102", want: all(remotePod+":8080", "sent masqueraded")},
			"no endpoints, balancer's address":           {from: clientIP, to: "203.0.113.6:80", in: "eth0", want: all("203.0.113.6:80", "rejected")},
			"no endpoints, balancer, not allowed":        {from: "203.0.113.99", to: "203.0.113.6:80", in: "eth0", want: all("203.0.113.6:80", "rejected")},
			"no endpoints, external address":             {from: clientIP, to: "203.0.113.7:80", in: "eth0", want: all("203.0.113.7:80", "rejected")},
			"no endpoints, external address, from node":  {from: nodeIP, to: "203.0.113.7:80", want: all("203.0.113.7:80", "rejected")},
			"no endpoints, node port":                    {from: clientIP, to: nodeIP + ":30103", in: "eth0", want: all(nodeIP+":30103", "rejected")},
			"internal local":                             {from: otherPod, to: "10.254.0.7:80", in: "kls0", want: all(podA+":8080", "forwarded")},
			"internal local without local endpoints":     {from: otherPod, to: "10.254.0.8:80", in: "kls0", want: all("10.254.0.8:80", "dropped")},
			"the same from the node":                     {from: nodeIP, to: "10.254.0.8:80", want: all("10.254.0.8:80", "dropped")},
			"local policy, the last one here is leaving": {from: clientIP, to: "203.0.113.10:80", in: "eth0", want: all(podA+":8080", "forwarded")},
			"cluster IP leaves that one out":             {from: otherPod, to: "10.254.0.10:80", in: "kls0", want: all(remotePod+":8080", "forwarded")},
			"all are leaving":                            {from: otherPod, to: "10.254.0.11:80", in: "kls0", want: half("forwarded")},
			"cluster IP that no Service has":             {from: otherPod, to: "10.254.0.77:80", in: "kls0", want: all("10.254.0.77:80", "rejected")},
			"SCTP by cluster IP":                         {from: otherPod, to: "10.254.0.9:80", in: "kls0", protocol: "sctp", want: all(remotePod+":8080", "forwarded")},
			"SCTP by external address":                   {from: clientIP, to: "203.0.113.9:80", in: "eth0", protocol: "sctp", want: all(remotePod+":8080", "forwarded masqueraded")},
			"TCP to an SCTP port":                        {from: otherPod, to: "10.254.0.9:80", in: "kls0", want: all("10.254.0.9:80", "rejected")},
		} {
			t.Run(name, func(t *testing.T) {
				if tc.protocol == "" {
					tc.protocol = "tcp"
				}
				got := (&fakeNode{t: t, family: family, iptables: n.iptables}).fatesIn(tc.from, tc.to, tc.in, tc.protocol)
				if diff := cmp.Diff(tc.want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
					t.Errorf("fates (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestPolicyOfTheAdministrator(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		np := makeService(family, "np", "10.254.0.1", []string{remotePod}, func(p *model.ServicePort) { p.NodePort = 30100 })
		gone := makeService(family, "gone", "10.254.0.2", nil, func(p *model.ServicePort) { p.NodePort = 30101 })
		with := func(change func(*render.Policy)) *fakeNode {
			n := newFakeNodeOf(t, family)
			change(&n.input.facts.Policy)
			n.sync(np, gone)
			return n
		}
		expect := func(what string, n *fakeNode, from, to, iface, want string) {
			t.Helper()
			if got := strings.Join(n.fatesIn(from, to, iface, "tcp"), ", "); got != want {
				t.Errorf("%s: %s, want %s", what, got, want)
			}
		}
		expect("masquerade all", with(func(p *render.Policy) { p.MasqueradeAll = true }),
			otherPod, "10.254.0.1:80", "kls0", remotePod+":8080 forwarded masqueraded 100%")

		none := with(func(p *render.Policy) { p.SomeNodePortAddresses = true })
		expect("no address has node ports", none, clientIP, nodeIP+":30100", "eth0", nodeIP+":30100 local 100%")
		expect("nor refuses", none, clientIP, nodeIP+":30101", "eth0", nodeIP+":30101 local 100%")

		own := with(func(p *render.Policy) {
			p.SomeNodePortAddresses, p.NodePortAddresses = true, []netip.Addr{in(family, nodeIP).Addr()}
		})
		expect("one address has node ports", own, clientIP, nodeIP+":30100", "eth0", remotePod+":8080 forwarded masqueraded 100%")
		expect("and refuses", own, clientIP, nodeIP+":30101", "eth0", nodeIP+":30101 rejected 100%")
		expect("another one has not", own, clientIP, "10.244.1.1:30100", "eth0", "10.244.1.1:30100 local 100%")
	})
}

func TestNodePortsOnLoopback(t *testing.T) {
	for name, tc := range map[string]struct {
		family   model.Family
		loopback string
		closed   bool
		want     string
	}{
		"IPv4, open":   {loopback: "127.0.0.1", want: remotePod + ":8080 sent masqueraded"},
		"IPv4, closed": {loopback: "127.0.0.1", closed: true, want: "127.0.0.1:30100 sent"},
		"IPv6":         {family: model.IPv6, loopback: "::1", want: "[::1]:30100 sent"},
	} {
		n := newFakeNodeOf(t, tc.family)
		n.input.facts.NoLoopbackNodePorts = tc.closed
		n.sync(makeService(tc.family, "np", "10.254.0.1", []string{remotePod}, func(p *model.ServicePort) { p.NodePort = 30100 }))
		ip := netip.MustParseAddr(tc.loopback)
		outcomes, err := (tracer.Node{Save: n.iptables.Dump()}).Trace(tracer.Packet{From: ip, To: netip.AddrPortFrom(ip, 30100), Protocol: "tcp"})
		if err != nil || len(outcomes) != 1 {
			t.Fatalf("%s: %v, %v", name, outcomes, err)
		}
		got := outcomes[0].To.String() + " " + outcomes[0].Verdict
		if outcomes[0].Masquerade {
			got += " masqueraded"
		}
		if got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestHintsDecideByZone(t *testing.T) {
	n := newFakeNode(t)
	svc := makeService(model.IPv4, "hinted", "10.254.0.1", []string{podA, remotePod}, nil)
	for i, zone := range []string{"zone-2", thisZone} {
		svc.Ports[0].Endpoints[i].Hints = &model.Hints{Zones: []string{zone}}
	}
	n.sync(svc)
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, n.fatesIn(otherPod, "10.254.0.1:80", "kls0", "tcp")); diff != "" {
			t.Errorf("fates (-want +got):\n%s", diff)
		}
	}
	expect(remotePod + ":8080 forwarded 100%")
	n.input.facts.Zone = "zone-2"
	n.sync()
	expect(podA + ":8080 forwarded 100%")
	n.input.facts.Zone = ""
	n.sync()
	expect(podA+":8080 forwarded 50%", remotePod+":8080 forwarded 50%")
}

func TestDualStackServiceIsRenderedByFamily(t *testing.T) {
	four, six := newFakeNodeOf(t, model.IPv4), newFakeNodeOf(t, model.IPv6)
	svc := makeService(model.IPv4, "web", "10.254.0.1", []string{podA}, nil)
	svc.Ports = append(svc.Ports, makeService(model.IPv6, "web", "10.254.0.1", []string{podB}, nil).Ports...)
	four.sync(svc)
	six.sync(svc)
	if got := four.fatesIn(otherPod, "10.254.0.1:80", "kls0", "tcp"); !slices.Equal(got, []string{podA + ":8080 forwarded 100%"}) {
		t.Errorf("IPv4: %v", got)
	}
	if got := six.fatesIn(otherPod, "10.254.0.1:80", "kls0", "tcp"); !slices.Equal(got, []string{podB + ":8080 forwarded 100%"}) {
		t.Errorf("IPv6: %v", got)
	}
	if dump := four.iptables.Dump(); strings.Contains(dump, "fd00") {
		t.Errorf("IPv6 addresses in the IPv4 rules:\n%s", dump)
	}
	svc.Ports = svc.Ports[:1] // single-stack again
	six.sync(svc)
	fresh := newFakeNodeOf(t, model.IPv6)
	fresh.sync()
	if diff := cmp.Diff(fresh.iptables.Dump(), six.iptables.Dump()); diff != "" {
		t.Errorf("left in the IPv6 rules (-want +got):\n%s", diff)
	}
}

// However Services come, change and go, the rules are those of a node that has only ever
// seen what is there in the end.
func TestNothingIsLeftBehind(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		n, fresh := newFakeNodeOf(t, family), newFakeNodeOf(t, family)
		fresh.sync()
		services := externalServices(family)
		n.sync(services...)
		for i, svc := range services {
			other := services[(i+1)%len(services)]
			changed := svc
			changed.Ports = slices.Clone(other.Ports)
			changed.Ports[0].Name = svc.Ports[0].Name
			changed.Ports[0].ClusterIP = svc.Ports[0].ClusterIP
			changed.HealthCheckPort = uint16(31000 + i)
			n.sync(changed)
		}
		n.input.facts.Zone = "other"
		n.sync()
		for _, svc := range services {
			n.sync(model.Service{Name: svc.Name})
		}
		n.input.facts.Zone = thisZone
		n.sync()
		if diff := cmp.Diff(fresh.iptables.Dump(), n.iptables.Dump()); diff != "" {
			t.Errorf("left behind (-want +got):\n%s", diff)
		}
	})
}

func TestHealthChecksFollowLocalEndpoints(t *testing.T) {
	n := newFakeNode(t)
	svc := makeService(model.IPv4, "lb", "10.254.0.3", []string{podA, podB, remotePod, "!10.244.1.4"}, func(p *model.ServicePort) {
		p.ExternalLocal, p.NodePort = true, 30101
	})
	second := svc.Ports[0]
	second.Name.Port, second.Port, second.NodePort = "again", 81, 30102
	svc.Ports, svc.HealthCheckPort = append(svc.Ports, second), 31000
	n.sync(svc)
	want := map[types.NamespacedName]healthcheck.Service{svc.Name: {Port: 31000, LocalEndpoints: 2}}
	if diff := cmp.Diff(want, n.health.services); diff != "" {
		t.Errorf("health checks (-want +got):\n%s", diff)
	}
	if rules, _ := n.iptables.Rules("filter", render.HealthPorts); len(rules) != 1 || !strings.Contains(rules[0], "--dport 31000") {
		t.Errorf("rules that accept health checks: %q", rules)
	}
	calls := n.health.calls
	n.sync(makeService(model.IPv4, "other", "10.254.0.4", nil, nil))
	if n.health.calls != calls {
		t.Error("a Service without health check made them be looked at")
	}
	n.check()
	if n.health.calls != calls+1 {
		t.Error("a check does not try ports again that could not be opened")
	}
	n.sync(model.Service{Name: svc.Name})
	if len(n.health.services) != 0 {
		t.Errorf("health checks of a Service that is gone: %v", n.health.services)
	}
}

func TestUnservedPortsAreCounted(t *testing.T) {
	n := newFakeNode(t)
	n.sync(externalServices(model.IPv4)...)
	if diff := cmp.Diff(render.Unserved{Internal: 1, External: 1}, n.syncer.ruleset.Unserved()); diff != "" {
		t.Errorf("with all Services (-want +got):\n%s", diff)
	}
	for _, svc := range externalServices(model.IPv4) {
		n.sync(model.Service{Name: svc.Name})
	}
	if diff := cmp.Diff(render.Unserved{}, n.syncer.ruleset.Unserved()); diff != "" {
		t.Errorf("without (-want +got):\n%s", diff)
	}
}
