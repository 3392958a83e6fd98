package loadbalancer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// balancer is a Service of type LoadBalancer with the addresses it has; later ones are
// younger.
func balancer(name string, age int, has ...string) *keelsonv1.Service {
	s := &keelsonv1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(name),
		CreationTimestamp: metav1.NewTime(time.Unix(1000-int64(age), 0)),
	}}
	s.Spec.Type, s.Spec.IPFamilies = corev1.ServiceTypeLoadBalancer, []corev1.IPFamily{corev1.IPv4Protocol}
	for _, ip := range has {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

func with(s *keelsonv1.Service, change func(*keelsonv1.Service)) *keelsonv1.Service {
	change(s)
	return s
}

func wishing(s *keelsonv1.Service, wish string) *keelsonv1.Service {
	return with(s, func(s *keelsonv1.Service) {
		s.Annotations = map[string]string{keelsonv1.LoadBalancerIPsAnnotation: wish}
	})
}

func dual(s *keelsonv1.Service, policy corev1.IPFamilyPolicy) *keelsonv1.Service {
	return with(s, func(s *keelsonv1.Service) {
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}, &policy
	})
}

func pool(t *testing.T, entries ...string) addrpool.Pool {
	t.Helper()
	p, err := addrpool.Parse(entries)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlan(t *testing.T) {
	four, six := "192.0.2.10-192.0.2.12", "fd00::10-fd00::12"
	foreign := balancer("foreign", 0, "192.0.2.10")
	foreign.Spec.LoadBalancerClass = new("example.com/other")
	tests := map[string]struct {
		self       *keelsonv1.Service
		others     []*keelsonv1.Service
		nodes      []string
		pool       []string
		want       string
		wantReason string
		wantText   string
		wantLosers int
	}{
		"the lowest address is given":                     {self: balancer("a", 0), pool: []string{four}, want: "192.0.2.10"},
		"what another has is not given":                   {self: balancer("a", 9), others: []*keelsonv1.Service{balancer("b", 0, "192.0.2.10")}, pool: []string{four}, want: "192.0.2.11"},
		"nor what another implementation has given":       {self: balancer("a", 9), others: []*keelsonv1.Service{foreign}, pool: []string{four}, want: "192.0.2.11"},
		"nor what a node has":                             {self: balancer("a", 0), nodes: []string{"192.0.2.10"}, pool: []string{four}, want: "192.0.2.11"},
		"what the Service has it keeps":                   {self: balancer("a", 0, "192.0.2.12"), pool: []string{four}, want: "192.0.2.12"},
		"but not what is no longer in the pool":           {self: balancer("a", 0, "192.0.2.99"), pool: []string{four}, want: "192.0.2.10"},
		"nor what a node has taken":                       {self: balancer("a", 0, "192.0.2.10"), nodes: []string{"192.0.2.10"}, pool: []string{four}, want: "192.0.2.11"},
		"of two with one address the older keeps it":      {self: balancer("a", 9, "192.0.2.10"), others: []*keelsonv1.Service{balancer("b", 0, "192.0.2.10")}, pool: []string{four}, want: "192.0.2.10", wantLosers: 1},
		"and the younger gets another":                    {self: balancer("a", 0, "192.0.2.10"), others: []*keelsonv1.Service{balancer("b", 9, "192.0.2.10")}, pool: []string{four}, want: "192.0.2.11"},
		"an exhausted pool":                               {self: balancer("a", 0), others: []*keelsonv1.Service{balancer("b", 0, "192.0.2.1")}, pool: []string{"192.0.2.1/32"}, wantReason: ReasonPoolExhausted, wantText: "no address is free in the pool 192.0.2.1-192.0.2.1"},
		"a pool of the other family":                      {self: balancer("a", 0), pool: []string{six}, wantReason: ReasonNoFamily, wantText: "no addresses of IPv4"},
		"a wish is fulfilled":                             {self: wishing(balancer("a", 0), "192.0.2.11"), pool: []string{four}, want: "192.0.2.11"},
		"a wish moves the Service":                        {self: wishing(balancer("a", 0, "192.0.2.10"), "192.0.2.11"), pool: []string{four}, want: "192.0.2.11"},
		"a wish that is fulfilled stays so":               {self: wishing(balancer("a", 0, "192.0.2.11"), "192.0.2.11"), pool: []string{four}, want: "192.0.2.11"},
		"spec.loadBalancerIP is a wish":                   {self: with(balancer("a", 0), func(s *keelsonv1.Service) { s.Spec.LoadBalancerIP = "192.0.2.12" }), pool: []string{four}, want: "192.0.2.12"},
		"the annotation counts before it":                 {self: with(wishing(balancer("a", 0), "192.0.2.11"), func(s *keelsonv1.Service) { s.Spec.LoadBalancerIP = "192.0.2.12" }), pool: []string{four}, want: "192.0.2.11"},
		"a wish outside of the pool":                      {self: wishing(balancer("a", 0), "192.0.2.99"), pool: []string{four}, wantReason: ReasonNotInPool, wantText: "192.0.2.99 is not in the pool"},
		"a wish that cannot be leaves what there is":      {self: wishing(balancer("a", 0, "192.0.2.10"), "192.0.2.99"), pool: []string{four}, want: "192.0.2.10", wantReason: ReasonNotInPool},
		"a wish for what another has":                     {self: wishing(balancer("a", 9), "192.0.2.10"), others: []*keelsonv1.Service{balancer("b", 0, "192.0.2.10")}, pool: []string{four}, wantReason: ReasonTaken, wantText: "192.0.2.10 is that of service default/b"},
		"a wish for a node's address":                     {self: wishing(balancer("a", 9), "192.0.2.10"), nodes: []string{"192.0.2.10"}, pool: []string{four}, wantReason: ReasonTaken, wantText: "that of node n0"},
		"a wish that is no address":                       {self: wishing(balancer("a", 0), "ten"), pool: []string{four}, wantReason: ReasonInvalidWish, wantText: `annotation keelson.dev/load-balancer-ips: "ten" is not an IP address`},
		"a wish of a family that the Service lacks":       {self: wishing(balancer("a", 0), "fd00::10"), pool: []string{four, six}, wantReason: ReasonInvalidWish, wantText: "spec.ipFamilies lacks"},
		"two wishes of one family":                        {self: wishing(balancer("a", 0), "192.0.2.10,192.0.2.11"), pool: []string{four}, wantReason: ReasonInvalidWish, wantText: "two addresses of one family"},
		"both families, in the Service's order":           {self: dual(balancer("a", 0), corev1.IPFamilyPolicyPreferDualStack), pool: []string{four, six}, want: "fd00::10,192.0.2.10"},
		"a wish for one family, anything of the other":    {self: wishing(dual(balancer("a", 0), corev1.IPFamilyPolicyPreferDualStack), "192.0.2.12"), pool: []string{four, six}, want: "fd00::10,192.0.2.12"},
		"the second family is optional if only preferred": {self: dual(balancer("a", 0), corev1.IPFamilyPolicyPreferDualStack), pool: []string{six}, want: "fd00::10"},
		"but not if it is required":                       {self: dual(balancer("a", 0), corev1.IPFamilyPolicyRequireDualStack), pool: []string{six}, want: "fd00::10", wantReason: ReasonNoFamily},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			services := []keelsonv1.Service{*tt.self}
			for _, o := range tt.others {
				services = append(services, *o)
			}
			var nodes []keelsonv1.Node
			for i, ip := range tt.nodes {
				n := keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("n", i)}}
				n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}
				nodes = append(nodes, n)
			}
			p := makePlan(computeLedger(tt.self, services, nodes), pool(t, tt.pool...))
			var got []string
			for _, a := range p.addresses {
				got = append(got, a.String())
			}
			if strings.Join(got, ",") != tt.want || len(p.losers) != tt.wantLosers {
				t.Errorf("addresses %v, losers %v; want %s and %d", got, p.losers, tt.want, tt.wantLosers)
			}
			reason, text := "", ""
			if p.problem != nil {
				reason, text = p.problem.reason, p.problem.text
			}
			if reason != tt.wantReason || !strings.Contains(text, tt.wantText) {
				t.Errorf("problem %q %q, want %q %q", reason, text, tt.wantReason, tt.wantText)
			}
		})
	}
}

// TestNoAddressIsGivenTwice lets Services come, go, wish and start in conflict, settles
// them in any order, and finds every address at one Service only.
func TestNoAddressIsGivenTwice(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		from := pool(t, "192.0.2.1-192.0.2.6", "fd00::1-fd00::4")
		var services []keelsonv1.Service
		for i := range 8 {
			s := balancer(fmt.Sprint("s", i), random.IntN(3))
			if random.IntN(2) == 0 { // in conflict, perhaps
				s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprint("192.0.2.", 1+random.IntN(4))}}
			}
			if random.IntN(3) == 0 {
				s = dual(s, corev1.IPFamilyPolicyPreferDualStack)
			}
			if random.IntN(3) == 0 {
				s = wishing(s, fmt.Sprint("192.0.2.", 1+random.IntN(7)))
			}
			services = append(services, *s)
		}
		settle := func(i int) bool {
			p := makePlan(computeLedger(&services[i], services, nil), from)
			return renderStatus(&services[i], &p)
		}
		for range 3 {
			for _, i := range random.Perm(len(services)) {
				settle(i)
			}
		}
		holder := map[netip.Addr]string{}
		for i := range services {
			for _, addr := range heldBy(&services[i]) {
				if other := holder[addr]; other != "" {
					t.Fatalf("seed %d: %s and %s have %s", seed, other, services[i].Name, addr)
				}
				if !from.Contains(addr) {
					t.Fatalf("seed %d: %s has %s, which is not in the pool", seed, services[i].Name, addr)
				}
				holder[addr] = services[i].Name
			}
		}
		for i := range services { // and nothing is written again without a reason
			settle(i)
			if settle(i) {
				t.Fatalf("seed %d: %s changes without end", seed, services[i].Name)
			}
		}
	}
}
