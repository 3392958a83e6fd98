package proxy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/nodeagent/proxy/conntrack"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables/fake"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/proxy/render"
	"github.com/keelson-dev/keelson/nodeagent/proxy/tracer"
)

// shares says how the questions of a Pod to a Service's UDP port are spread while some
// endpoints are known to refuse.
func (n *fakeNode) shares(svc model.Service, refusing ...int) string {
	n.t.Helper()
	port := svc.Ports[1]
	var lists []string
	for _, i := range refusing {
		lists = append(lists, render.RefusedList(port.Protocol, port.Endpoints[i].Address))
	}
	outcomes, err := (tracer.Node{Save: n.iptables.Dump()}).Trace(tracer.Packet{
		From: in(n.family, otherPod).Addr(), To: netip.AddrPortFrom(port.ClusterIP, port.Port), In: "kls0", Protocol: "udp", Lists: lists,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for i, e := range port.Endpoints {
		for _, o := range outcomes {
			if o.To == e.Address && o.Probability > 0 {
				out = append(out, fmt.Sprintf("%d: %.0f%%", i, math.Round(100*o.Probability)))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestQuestionsPassByNameServersThatRefuse(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		addresses := []string{in(family, podA).Addr().String(), in(family, podB).Addr().String(), in(family, remotePod).Addr().String()}
		two := service("two", clusterIP(family, "10"), addresses[1:]...)
		three := service("three", clusterIP(family, "11"), addresses...)
		one := service("one", clusterIP(family, "12"), addresses[0])
		other := service("other", clusterIP(family, "13"), addresses[1:]...)
		n := newFakeNodeOf(t, family)
		for _, svc := range []model.Service{two, three, one} {
			n.input.facts.NameServers = append(n.input.facts.NameServers, svc.Ports[0].ClusterIP)
		}
		n.sync(two, three, one, other)
		for name, tt := range map[string]struct {
			svc      model.Service
			refusing []int
			want     string
		}{
			"none of two refuses":                  {two, nil, "0: 50%, 1: 50%"},
			"the first of two refuses":             {two, []int{0}, "1: 100%"},
			"the last of two refuses":              {two, []int{1}, "0: 100%"},
			"both refuse":                          {two, []int{0, 1}, "0: 50%, 1: 50%"},
			"none of three refuses":                {three, nil, "0: 33%, 1: 33%, 2: 33%"},
			"the first of three refuses":           {three, []int{0}, "1: 50%, 2: 50%"},
			"the last of three refuses":            {three, []int{2}, "0: 67%, 1: 33%"},
			"all but the first refuse":             {three, []int{1, 2}, "0: 100%"},
			"all but the last refuse":              {three, []int{0, 1}, "2: 100%"},
			"all refuse":                           {three, []int{0, 1, 2}, "0: 33%, 1: 33%, 2: 33%"},
			"the only one refuses":                 {one, []int{0}, "0: 100%"},
			"one of a Service that is not for DNS": {other, []int{0}, "0: 50%, 1: 50%"},
		} {
			t.Run(name, func(t *testing.T) {
				if got := n.shares(tt.svc, tt.refusing...); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		}

		t.Log("Refusals are noted of what uses them, and kept from clients while there is another")
		count := func(chain string) int {
			rules, _ := n.iptables.Rules("filter", chain)
			return len(rules)
		}
		chainOf := func(svc model.Service) string { return render.RefusalChain(&svc.Ports[1]) }
		got := []int{count(render.Refused), count(chainOf(one)), count(chainOf(two)), count(chainOf(three)), count(chainOf(other))}
		if diff := cmp.Diff([]int{3, 2, 4, 6, 0}, got); diff != "" {
			t.Errorf("rules about refusals (-want +got):\n%s", diff)
		}
		n.sync(service("two", clusterIP(family, "10")))
		if _, exists := n.iptables.Rules("filter", chainOf(two)); exists || count(render.Refused) != 2 {
			t.Error("rules about refusals stay when there are no endpoints")
		}

		t.Log("A client that stays with its endpoint leaves it when it refuses")
		sticky := withAffinity(three, 100)
		n.sync(sticky)
		if got := n.shares(sticky, 0); got != "1: 50%, 2: 50%" {
			t.Errorf("with affinity: %s", got)
		}
	})
}

// Of the end of one of two name servers no client hears, and what is asked after that goes
// to the other, whoever asks; when both have ended clients hear it. Clients of another
// Service of the same servers hear what the kernel says every time.
func TestKernelPassesByNameServersThatRefuse(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		eachBackendOf(t, family, func(t *testing.T, n *testNode) {
			lab := labAddresses(family)
			for _, pod := range []string{"a", "b"} { // these tests ask faster than the kernel likes to refuse
				n.in(pod, func() {
					n.write("/proc/sys/net/ipv4/icmp_ratelimit", "0")
					n.write("/proc/sys/net/ipv6/icmp/ratelimit", "0")
				})
			}
			n.before = n.save()
			var services []model.Service
			clients := []string{"out", "node", "b"}
			for i := range clients { // each has name servers of its own
				svc := change(service(fmt.Sprint("dns-", i), clusterIP(family, fmt.Sprint(10+i)), lab.podA, lab.podB), func(p *model.ServicePort) {
					for e := range p.Endpoints {
						p.Endpoints[e].Address = netip.AddrPortFrom(p.Endpoints[e].Address.Addr(), uint16(8080+i))
					}
				})
				services = append(services, svc)
				n.input.facts.NameServers = append(n.input.facts.NameServers, svc.Ports[0].ClusterIP)
			}
			// Connections to servers that are gone live until they are deleted; here they stay.
			n.syncer.clean = func(model.Family, *conntrack.Wanted) (int, error) { return 0, nil }
			ordinary := at(clusterIP(family, "20"), 53)
			n.sync(append(services, service("ordinary", clusterIP(family, "20"), lab.podA, lab.podB))...)

			for i, client := range clients {
				port := services[i].Ports[1]
				target := netip.AddrPortFrom(port.ClusterIP, port.Port).String()
				serve := func(pod string) (stop func()) { return n.serveUDP(pod, pod, fmt.Sprintf(":%d", 8080+i)) }
				stopA, stopB := serve("a"), serve("b")
				used := 40000
				for ; !strings.HasPrefix(n.askFrom(client, "udp", target, used), "a from "); used++ {
				}
				stopA()
				noted := n.untilNoted(client, target, port.Endpoints[0].Address)
				for asked := range 30 {
					got := n.ask(client, "udp", target)
					if time.Since(noted) > 8*time.Second {
						t.Logf("%s: the machine is too busy to ask more than %d times in time", client, asked)
						break
					}
					if !strings.HasPrefix(got, "b from ") {
						t.Fatalf("%s, after a refusal: %q", client, got)
					}
				}
				n.hearsNothing(client, target, used)
				if i == 0 && n.variant == "iptables-nft" { // how long a refusal counts is the same for all, and takes its time
					stop := serve("a")
					n.untilAnswered(client, target, "a from ")
					stop()
				}
				n.sync(change(services[i], func(p *model.ServicePort) { p.Endpoints = p.Endpoints[1:] }))
				n.hearsNothing(client, target, used)
				n.sync(services[i])
				if i == 0 { // these servers are those of the ordinary Service, too
					for range 3 {
						n.untilRefused(client, ordinary)
					}
				}
				stopB()
				n.untilRefused(client, target)
			}
			n.checkCleanup()
		})
	})
}

// untilNoted asks until the kernel has noted that an endpoint refuses, and returns when
// that was.
func (n *testNode) untilNoted(client, target string, endpoint netip.AddrPort) time.Time {
	n.t.Helper()
	list := "/proc/thread-self/net/xt_recent/" + render.RefusedList(model.UDP, endpoint)
	for range 200 {
		asked := time.Now()
		if got := n.askWithin(client, "udp", target, 0, 100*time.Millisecond); got == "refused" {
			n.t.Fatalf("%s hears that an endpoint refuses", client)
		}
		var text []byte
		n.in("node", func() { text, _ = os.ReadFile(list) }) // empty when it cannot be read
		if len(text) > 0 {
			return asked
		}
	}
	n.t.Fatalf("no refusal to %s is noted", client)
	return time.Time{}
}

// hearsNothing asks from a port that led to a server that has ended.
func (n *testNode) hearsNothing(client, target string, port int) {
	n.t.Helper()
	if got := n.askWithin(client, "udp", target, port, 300*time.Millisecond); got != "timeout" {
		n.t.Errorf("%s, from a port that led to the server that ended: %q", client, got)
	}
}

// untilAnswered asks until an answer begins in some way.
func (n *testNode) untilAnswered(client, target, prefix string) {
	n.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.HasPrefix(n.ask(client, "udp", target), prefix); {
		if time.Now().After(deadline) {
			n.t.Fatal("a server that was started again is not asked")
		}
	}
}

// untilRefused asks until the client hears that an endpoint refuses.
func (n *testNode) untilRefused(client, target string) {
	n.t.Helper()
	for range 200 {
		if n.askWithin(client, "udp", target, 0, 100*time.Millisecond) == "refused" {
			return
		}
	}
	n.t.Fatalf("%s is never refused at %s", client, target)
}

// without is a kernel that does not have a match.
type without struct {
	*fake.IPTables
	match string
}

func (w without) Restore(ctx context.Context, input []byte) error {
	if w.match != "" && strings.Contains(string(input), "-m "+w.match) {
		return errors.New("no such match: " + w.match)
	}
	return w.IPTables.Restore(ctx, input)
}

func TestWhetherTheKernelCanTakeNoteOfRefusals(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "xt_recent")
	for name, tt := range map[string]struct {
		missing, lists string
		want, restores int
		fails          bool
	}{
		"lists are there":               {lists: t.TempDir(), missing: "recent", want: 1},
		"a rule is taken":               {lists: nowhere, want: 1, restores: 2},
		"a rule is refused":             {lists: nowhere, missing: "recent", restores: 2},
		"so is one without lists":       {lists: nowhere, missing: "conntrack", fails: true},
		"whether there are is not told": {lists: "bad\x00name", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			kernel := without{fake.New(), tt.missing}
			before := kernel.Dump()
			got, err := notesRefusals(t.Context(), model.IPv4, kernel, tt.lists)
			if got != (tt.want == 1) || (err != nil) != tt.fails {
				t.Errorf("got %v, %v", got, err)
			}
			if kernel.Restores != tt.restores {
				t.Errorf("%d restores, want %d", kernel.Restores, tt.restores)
			}
			if diff := cmp.Diff(before, kernel.Dump()); diff != "" {
				t.Errorf("left behind (-before +after):\n%s", diff)
			}
		})
	}
}

// A kernel that cannot take note of refusals serves everything else.
func TestServicesWorkOnAKernelWithoutLists(t *testing.T) {
	four, six := netip.MustParseAddr("10.254.0.10"), netip.MustParseAddr("fd00:10:254::a")
	n := newFakeNode(t)
	n.syncer.executor = without{n.iptables, "recent"}
	n.syncer.driver = iptables.NewDriver(n.syncer.executor)
	n.input.facts.NameServers = n.syncer.nameServers(t.Context(), []netip.Addr{four, six})
	n.sync(service("dns", four.String(), podA, remotePod))
	if got := n.fatesIn(otherPod, "10.254.0.10:53", "kls0", "udp"); len(got) != 2 {
		t.Errorf("fates %v", got)
	}
	restores := n.iptables.Restores
	if got := n.syncer.nameServers(t.Context(), []netip.Addr{four}); got != nil || n.iptables.Restores != restores {
		t.Errorf("the second time name servers %v after %d more restores", got, n.iptables.Restores-restores)
	}
}

func TestNameServersAreThoseOfTheFamily(t *testing.T) {
	four, six := netip.MustParseAddr("10.254.0.10"), netip.MustParseAddr("fd00:10:254::a")
	for family, want := range map[model.Family]netip.Addr{model.IPv4: four, model.IPv6: six} {
		n := newFakeNodeOf(t, family)
		n.syncer.executor = without{n.iptables, "conntrack"}
		if got := n.syncer.nameServers(t.Context(), []netip.Addr{four, six}); got != nil {
			t.Errorf("%s: %v while nothing can be tried", family, got)
		}
		n.syncer.executor = n.iptables
		if got := n.syncer.nameServers(t.Context(), []netip.Addr{four, six}); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v, want %v", family, got, want)
		}
	}
}
