package service

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// world is what a test may do to Services in any order, with the plan applied as the
// controller does: one Service at a time, losers at once.
type world struct {
	ranges   ranges
	services []*keelsonv1.Service
	made     int
}

// TestNoTwoServicesShareAnything: whatever users ask for, and even when the API holds
// duplicates, settling every Service once leaves no address and no port twice.
func TestNoTwoServicesShareAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{}
		w.ranges = drawRanges(t)
		t.Repeat(map[string]func(*rapid.T){
			"create": w.create,
			"delete": w.delete,
			"retype": w.retype,
			"settle": w.settleAndCheck,
		})
		w.settleAndCheck(t)
	})
}

func drawRanges(t *rapid.T) ranges {
	r := testRangesFor(rapid.SampledFrom([]string{"10.0.0.0/28", "10.0.0.0/27", "10.0.0.0/28,fd00::/124", "fd00::/124,10.0.0.0/27"}).Draw(t, "cidr"),
		rapid.SampledFrom([]string{"30000-30003", "30000-30039"}).Draw(t, "ports"))
	r.intN = func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "draw") }
	return r
}

func testRangesFor(cidr, ports string) ranges { return testRanges(&testing.T{}, cidr, ports) }

func (w *world) create(t *rapid.T) {
	w.made++
	b := builders.MakeService(fmt.Sprint("s", w.made)).UID(fmt.Sprint("uid", w.made)).
		Created(time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "second")), 0)).
		Type(rapid.SampledFrom([]corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}).Draw(t, "type"))
	switch rapid.IntRange(0, 3).Draw(t, "address") {
	case 0:
		b = b.Headless()
	case 1: // as admission of two replicas at once would let pass: maybe taken
		b = b.ClusterIP(w.ranges.addresses[0].At(rapid.IntRange(2, w.ranges.addresses[0].Size()).Draw(t, "static")).String())
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "ports") {
		b = b.PortSpec(corev1.ServicePort{
			Name: fmt.Sprint(i), Port: int32(rapid.IntRange(1, 2).Draw(t, "port")),
			Protocol: rapid.SampledFrom([]corev1.Protocol{"", corev1.ProtocolTCP, corev1.ProtocolUDP}).Draw(t, "protocol"),
		})
		if rapid.Bool().Draw(t, "fixed") {
			b = b.NodePort(w.ranges.ports.First + int32(rapid.IntRange(0, w.ranges.ports.Size()-1).Draw(t, "nodePort")))
		}
	}
	service := b.Obj()
	if len(w.ranges.addresses) == 2 && rapid.Bool().Draw(t, "both") {
		service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		if !w.ranges.addresses[0].Is4() {
			slices.Reverse(service.Spec.IPFamilies)
		}
		service.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	}
	if rapid.Bool().Draw(t, "local") {
		service.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	w.services = append(w.services, service)
}

func (w *world) delete(t *rapid.T) {
	if len(w.services) == 0 {
		t.Skip("no Service")
	}
	i := rapid.IntRange(0, len(w.services)-1).Draw(t, "victim")
	w.services = append(w.services[:i], w.services[i+1:]...)
}

func (w *world) retype(t *rapid.T) {
	if len(w.services) == 0 {
		t.Skip("no Service")
	}
	s := w.services[rapid.IntRange(0, len(w.services)-1).Draw(t, "service")]
	s.Spec.Type = rapid.SampledFrom([]corev1.ServiceType{
		corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeExternalName,
	}).Draw(t, "type")
}

func (w *world) list() []keelsonv1.Service {
	var list []keelsonv1.Service
	for _, s := range w.services {
		list = append(list, *s)
	}
	return list
}

// settleAndCheck: one pass leaves nothing twice; a second one, the retry of those that
// came up short, leaves nobody without what is free.
func (w *world) settleAndCheck(t *rapid.T) {
	w.settleAll(t)
	w.checkUnique(t)
	w.settleAll(t)
	w.checkUnique(t)
	for _, s := range w.services {
		w.checkServed(t, s)
	}
}

// settleAll plans every Service once, in any order, and losers again at once.
func (w *world) settleAll(t *rapid.T) {
	if len(w.services) == 0 {
		return
	}
	for _, s := range rapid.Permutation(w.services).Draw(t, "order") {
		w.settle(t, s, map[string]bool{})
	}
}

func (w *world) settle(t *rapid.T, s *keelsonv1.Service, seen map[string]bool) {
	if seen[s.Name] {
		return
	}
	seen[s.Name] = true
	had := s.Spec.ClusterIPs
	p := makePlan(s, computeLedger(w.list(), s), w.ranges)
	s.Spec = p.spec
	for _, given := range p.spec.ClusterIPs {
		addr, err := netip.ParseAddr(given)
		if err != nil || slices.Contains(had, given) {
			continue
		}
		if r := w.ranges.addresses.Family(addr.Is4()); addr == r.KubernetesAddress() || addr == r.DNSAddress() {
			t.Fatalf("%s was given the reserved address %s", s.Name, addr)
		}
	}
	for _, key := range p.losers {
		for _, other := range w.services {
			if other.Name == key.Name {
				w.settle(t, other, seen)
			}
		}
	}
}

func (w *world) checkUnique(t *rapid.T) {
	addresses, ports := map[netip.Addr]string{}, map[nodePort]string{}
	for _, s := range w.services {
		for _, addr := range clusterIPsOf(&s.Spec) {
			if other, taken := addresses[addr]; taken {
				t.Fatalf("%s and %s both have %s", other, s.Name, addr)
			}
			addresses[addr] = s.Name
		}
		for port := range portsOf(&s.Spec) {
			if other, taken := ports[port]; taken {
				t.Fatalf("%s and %s both have port %v", other, s.Name, port)
			}
			ports[port] = s.Name
		}
	}
}

// checkServed: who needs a number has one, unless a new plan says that there is none;
// and a plan for a settled Service changes nothing.
func (w *world) checkServed(t *rapid.T, s *keelsonv1.Service) {
	p := makePlan(s, computeLedger(w.list(), s), w.ranges)
	if len(p.losers) > 0 {
		t.Fatalf("%s still has rivals %v", s.Name, p.losers)
	}
	if p.shortage == nil && s.Spec.Type != corev1.ServiceTypeExternalName && !slices.Equal(s.Spec.ClusterIPs, p.spec.ClusterIPs) {
		t.Fatalf("%s has %q, a second plan gives %q", s.Name, s.Spec.ClusterIPs, p.spec.ClusterIPs)
	}
	if headless := s.Spec.ClusterIP == corev1.ClusterIPNone; p.shortage == nil && !headless && s.Spec.Type != corev1.ServiceTypeExternalName &&
		len(s.Spec.ClusterIPs) != len(s.Spec.IPFamilies) {
		t.Fatalf("%s has the addresses %q for the families %q", s.Name, s.Spec.ClusterIPs, s.Spec.IPFamilies)
	}
	seen := map[nodePort]bool{}
	for _, port := range s.Spec.Ports {
		key := nodePort{protocolOf(port.Protocol), port.NodePort}
		if port.NodePort != 0 && seen[key] {
			t.Fatalf("%s has %v twice", s.Name, key)
		}
		seen[key] = true
		if (port.NodePort != 0) != needsNodePorts(&s.Spec) && p.shortage == nil {
			t.Fatalf("%s of type %s has node port %d", s.Name, s.Spec.Type, port.NodePort)
		}
	}
}
