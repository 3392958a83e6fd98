package proxy

import (
	"bytes"
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
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/keelson-dev/keelson/nodeagent/proxy/addresses"
	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// addressesOf are those of the lab in one family.
type addressesOf struct {
	node, outside, podA, podB, gateway, external string
}

func labAddresses(family model.Family) addressesOf {
	if family == model.IPv6 {
		return addressesOf{nodeIP6, outsideIP6, podA6, podB6, gateway6, externalIP6}
	}
	return addressesOf{nodeIP, outsideIP, podA, podB, "10.244.1.1", externalIP}
}

func at(ip string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port)).String()
}

// clusterIP returns an address of the Service range.
func clusterIP(family model.Family, last string) string {
	return in(family, "10.254.0."+last).Addr().String()
}

// change returns the Service with all ports changed.
func change(svc model.Service, do func(*model.ServicePort)) model.Service {
	svc.Ports = slices.Clone(svc.Ports)
	for i := range svc.Ports {
		do(&svc.Ports[i])
	}
	return svc
}

func TestKernelIPv6(t *testing.T) {
	eachBackendOf(t, model.IPv6, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		n.serve("b", "b", ":8080")
		n.serve("out", "outside", ":9090")
		n.before = n.save()
		ip := func(last string) string { return clusterIP(model.IPv6, last) }
		n.input.hostPorts = []model.HostPort{{Pod: "default/a", Protocol: model.TCP, HostPort: 8000, Target: netip.AddrPortFrom(netip.MustParseAddr(podA6), 8080)}}
		n.sync(
			withNodePorts(service("both", ip("10"), podA6, podB6), 30080, 30053),
			service("only-a", ip("11"), podA6),
			withNodePorts(service("empty", ip("12")), 30081, 30054),
			withAffinity(service("sticky", ip("13"), podA6, podB6), 100),
		)
		for _, network := range []string{"tcp", "udp"} {
			port, nodePort, emptyPort := 80, 30080, 30081
			if network == "udp" {
				port, nodePort, emptyPort = 53, 30053, 30054
			}
			n.want("b", network, at(ip("11"), port), "a from "+podB6)
			n.wantAll("b", network, at(ip("10"), port), "a from "+podB6, "b from "+gateway6)
			n.want("a", network, at(ip("11"), port), "a from "+gateway6)
			n.want("out", network, at(ip("11"), port), "a from "+gateway6)
			for _, ns := range []string{"out", "a"} {
				n.wantAll(ns, network, at(nodeIP6, nodePort), "a from "+gateway6, "b from "+gateway6)
			}
			for _, ns := range []string{"a", "out"} {
				for _, unused := range []string{at(ip("12"), port), at(ip("99"), port), at(ip("10"), 81), at(nodeIP6, emptyPort)} {
					n.want(ns, network, unused, "refused")
				}
			}
			first := n.ask("out", network, at(ip("13"), port))
			for range 10 {
				n.want("out", network, at(ip("13"), port), first)
			}
			n.want("a", network, at(outsideIP6, 9090), "outside from "+nodeIP6)
		}
		n.want("out", "tcp", at(nodeIP6, 8000), "a from "+outsideIP6)
		n.want("a", "tcp", at(nodeIP6, 8000), "a from "+gateway6)
		n.checkCleanup()
	})
}

func TestKernelFromOutside(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		eachBackendOf(t, family, func(t *testing.T, n *testNode) {
			lab := labAddresses(family)
			n.serve("a", "a", ":8080")
			n.serve("b", "b", ":8080")
			external := func(p *model.ServicePort) { p.ExternalIPs = []netip.Addr{netip.MustParseAddr(lab.external)} }
			svc := change(service("ext", clusterIP(family, "20"), lab.podA), external)
			target, udp := at(lab.external, 80), at(lab.external, 53)

			n.sync(svc)
			n.want("out", "tcp", target, "a from "+lab.gateway)
			n.want("out", "udp", udp, "a from "+lab.gateway)
			n.want("b", "tcp", target, "a from "+lab.gateway)

			n.sync(change(svc, func(p *model.ServicePort) { p.ExternalLocal = true }))
			n.want("out", "tcp", target, "a from "+lab.outside)
			n.want("b", "tcp", target, "a from "+lab.podB)

			elsewhere := change(svc, func(p *model.ServicePort) {
				p.ExternalLocal = true
				p.Endpoints = slices.Clone(p.Endpoints)
				p.Endpoints[0].Local = false
			})
			n.sync(elsewhere)
			n.want("out", "tcp", target, "timeout")
			n.want("b", "tcp", target, "a from "+lab.podB)

			n.sync(change(svc, func(p *model.ServicePort) { p.Endpoints = nil }))
			for _, ns := range []string{"out", "b", "node"} {
				n.want(ns, "tcp", target, "refused")
			}
			balancer := change(svc, func(p *model.ServicePort) {
				p.ExternalIPs, p.LoadBalancerIPs = nil, p.ExternalIPs
				p.SourceRanges = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(lab.podB), netip.MustParseAddr(lab.podB).BitLen())}
			})
			n.sync(balancer)
			n.want("b", "tcp", target, "a from "+lab.gateway)
			n.want("out", "tcp", target, "timeout")
			n.sync(change(balancer, func(p *model.ServicePort) { p.SourceRanges = nil }))
			n.want("out", "tcp", target, "a from "+lab.gateway)
		})
	})
}

// Whatever way a UDP client comes in, its connection follows the endpoints.
func TestKernelForgetsUDPEverywhere(t *testing.T) {
	const from = 40000
	eachFamily(t, func(t *testing.T, family model.Family) {
		eachBackendOf(t, family, func(t *testing.T, n *testNode) {
			lab := labAddresses(family)
			n.serve("a", "a", ":8080")
			n.serve("b", "b", ":8080")
			outward := at(lab.external, 53)
			ways := map[string]func(*model.ServicePort){
				"external IP": func(p *model.ServicePort) { p.ExternalIPs = []netip.Addr{netip.MustParseAddr(lab.external)} },
				"balancer":    func(p *model.ServicePort) { p.LoadBalancerIPs = []netip.Addr{netip.MustParseAddr(lab.external)} },
				"cluster IP":  func(*model.ServicePort) {},
				"node's ports": func(p *model.ServicePort) {
					p.NodePort = map[model.Protocol]uint16{model.TCP: 30080, model.UDP: 30053}[p.Protocol]
				},
			}
			for name, way := range ways {
				target := outward
				switch name {
				case "cluster IP":
					target = at(clusterIP(family, "30"), 53)
				case "node's ports":
					target = at(lab.node, 30053)
				}
				step := func(want string, endpoints ...string) {
					t.Helper()
					n.sync(change(service("dns", clusterIP(family, "30"), endpoints...), way))
					if got := n.askFrom("out", "udp", target, from); got != want {
						t.Errorf("%s, endpoints %v: got %q, want %q", name, endpoints, got, want)
					}
				}
				step("a from "+lab.gateway, lab.podA)
				step("b from "+lab.gateway, lab.podB)
				step("refused")
				step("a from "+lab.gateway, lab.podA)
				n.sync(model.Service{Name: types.NamespacedName{Namespace: "default", Name: "dns"}})
			}
		})
	})
}

// SCTP rules are taken by the kernel, whether or not it can speak SCTP.
func TestKernelTakesSCTP(t *testing.T) {
	eachFamily(t, func(t *testing.T, family model.Family) {
		eachBackendOf(t, family, func(t *testing.T, n *testNode) {
			lab := labAddresses(family)
			svc := service("sctp", clusterIP(family, "40"), lab.podA)
			svc.Ports = svc.Ports[:1]
			svc.Ports[0].Protocol, svc.Ports[0].NodePort = model.SCTP, 30090
			n.input.hostPorts = []model.HostPort{{Pod: "default/a", Protocol: model.SCTP, HostPort: 8000, Target: netip.AddrPortFrom(netip.MustParseAddr(lab.podA), 8080)}}
			n.sync(svc)
			got := n.save()
			for _, port := range []string{"80", "30090", "8000"} {
				if !strings.Contains(got, "-p sctp -m sctp --dport "+port+" ") {
					t.Errorf("no SCTP rule of port %s:\n%s", port, got)
				}
			}
		})
	})
}

// killed runs iptables-restore and kills it when some of its transactions are in force
// and others are not.
type killed struct {
	iptables.Commands
	// after is how many transactions the program gets.
	after int
	// rules are counted until they are there.
	saved func() int
}

func (k killed) Restore(ctx context.Context, input []byte) error {
	cut, blocks := 0, 0
	for i := range k.after {
		next := bytes.Index(input[cut:], []byte("COMMIT\n"))
		if next < 0 {
			return fmt.Errorf("only %d transactions", i)
		}
		blocks = bytes.Count(input[:cut+next], []byte("\n-A "))
		cut += next + len("COMMIT\n")
	}
	cmd := exec.CommandContext(ctx, k.Variant+"-restore", "--noflush")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	before := k.saved()
	// The next transaction begins, and does not end.
	half := min(len(input), cut+1000)
	if _, err := stdin.Write(input[:half]); err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return k.saved() >= before+blocks, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %d transactions: %w", k.after, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		return err
	}
	_ = stdin.Close()
	return cmd.Wait()
}

func TestKernelKilledInTheMiddleOfARestore(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.serve("a", "a", ":8080")
		services := append(manyServices(1000, 10), service("only-a", "10.254.99.11", podA))
		transactions := 1
		if n.variant == "iptables-nft" {
			transactions = 3 // a load of this size comes in blocks
		}
		k := killed{Commands: iptables.Commands{Variant: n.variant}, after: transactions}
		k.saved = func() int {
			out, err := exec.Command(n.variant + "-save").CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			return strings.Count(string(out), "\n-A KLS-")
		}
		n.syncer.driver = iptables.NewDriver(k)
		n.input.services = services
		var err error
		n.in("node", func() { err = n.syncer.sync(context.Background(), n.input) })
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the killed process: %v", err)
		}
		left := strings.Count(n.save(), "\n-A KLS-")
		if left == 0 {
			t.Fatal("nothing was written before the end")
		}
		// The next process finds what the first left, and less to do.
		n.syncer = n.newSyncer()
		n.sync(services[500:]...)
		n.want("b", "tcp", "10.254.99.11:80", "a from "+podB)
		fresh := newTestNode(t, n.variant)
		fresh.sync(services[500:]...)
		if diff := cmp.Diff(rulesOnly(fresh.save()), rulesOnly(n.save())); diff != "" {
			t.Errorf("after the restart (-fresh +restarted), first %d bytes:\n%.3000s", len(diff), diff)
		}
	})
}

func TestKernelFiveHundredServicesComeAndGo(t *testing.T) {
	eachBackend(t, func(t *testing.T, n *testNode) {
		n.sync()
		empty := rulesOnly(n.save())
		for range 5 {
			services := manyServices(500, 3)
			for i := range services {
				services[i].Ports[0].NodePort = uint16(30000 + i)
				services[i].Ports[0].ExternalIPs = []netip.Addr{netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})}
				services[i].Ports[0].AffinitySeconds = int32(i % 2)
			}
			for part := range slices.Chunk(services, 170) {
				n.sync(part...)
			}
			gone := make([]model.Service, len(services))
			for i, svc := range services {
				gone[i].Name = svc.Name
			}
			for part := range slices.Chunk(gone, 130) {
				n.sync(part...)
			}
		}
		if diff := cmp.Diff(empty, rulesOnly(n.save())); diff != "" {
			t.Errorf("left behind (-want +got):\n%.3000s", diff)
		}
	})
}

// A new address of the machine is noticed at once, for node ports that are open on some
// addresses only.
func TestKernelNewAddressesAreNoticed(t *testing.T) {
	l := newLab(t)
	ctx, stop := context.WithCancel(context.Background())
	seen, ended := make(chan struct{}, 1), make(chan error, 1)
	go l.in("node", func() {
		ended <- addresses.Follow(ctx, func() {
			select {
			case seen <- struct{}{}:
			default:
			}
		})
	})
	noticed := false
	for i := 10; i < 200 && !noticed; i++ { // until it listens
		l.ip("node", fmt.Sprintf("addr add 192.0.2.%d/32 dev eth0", i))
		select {
		case <-seen:
			noticed = true
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !noticed {
		t.Error("no new address was noticed")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
