package service

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
	"github.com/keelson-dev/keelson/test/builders"
)

var (
	older   = time.Unix(100, 0)
	younger = time.Unix(200, 0)
)

// testRanges draws the lowest free number of the dynamic band, so that a table can
// say what comes out.
func testRanges(t testing.TB, cidr, ports string) ranges {
	t.Helper()
	addresses, err := svcranges.ParseServiceCIDRs(cidr)
	if err != nil {
		t.Fatal(err)
	}
	portRange, err := svcranges.ParseNodePortRange(ports)
	if err != nil {
		t.Fatal(err)
	}
	return ranges{addresses: addresses, ports: portRange, intN: func(int) int { return 0 }}
}

type outcome struct {
	ClusterIP   string
	NodePorts   []int32
	HealthCheck int32
	Notes       []string
	Losers      []string
	Short       bool
}

func outcomeOf(p plan) outcome {
	o := outcome{ClusterIP: p.spec.ClusterIP, HealthCheck: p.spec.HealthCheckNodePort, Short: p.shortage != nil}
	for _, port := range p.spec.Ports {
		o.NodePorts = append(o.NodePorts, port.NodePort)
	}
	for _, n := range p.notes {
		o.Notes = append(o.Notes, n.reason)
	}
	for _, key := range p.losers {
		o.Losers = append(o.Losers, key.Name)
	}
	return o
}

func svc(name string) *builders.ServiceBuilder {
	return builders.MakeService(name).UID("uid-" + name).Created(younger)
}

func udp(b *builders.ServiceBuilder, port int32) *builders.ServiceBuilder {
	return b.PortSpec(corev1.ServicePort{Name: "udp", Port: port, Protocol: corev1.ProtocolUDP})
}

func TestMakePlanAddress(t *testing.T) {
	tests := map[string]struct {
		service *keelsonv1.Service
		others  []*keelsonv1.Service
		cidr    string
		want    outcome
	}{
		"a new Service gets an address above the static band": {
			service: svc("a").Obj(), want: outcome{ClusterIP: "10.254.0.17"},
		},
		"an address in use is passed over": {
			service: svc("a").Obj(), others: []*keelsonv1.Service{svc("b").ClusterIP("10.254.0.17").Obj()},
			want: outcome{ClusterIP: "10.254.0.18"},
		},
		"an address that it has stays": {
			service: svc("a").ClusterIP("10.254.0.99").Obj(), want: outcome{ClusterIP: "10.254.0.99"},
		},
		"so does one from the static band": {
			service: svc("a").ClusterIP("10.254.0.10").Obj(), want: outcome{ClusterIP: "10.254.0.10"},
		},
		"a headless Service stays headless": {
			service: svc("a").Headless().Obj(), want: outcome{ClusterIP: "None"},
		},
		"an ExternalName gives its address back": {
			service: svc("a").Type(corev1.ServiceTypeExternalName).ClusterIP("10.254.0.99").Obj(),
		},
		"an address outside the range stays, with a warning": {
			service: svc("a").ClusterIP("10.0.0.1").Obj(),
			want:    outcome{ClusterIP: "10.0.0.1", Notes: []string{ReasonClusterIPOutOfRange}},
		},
		"text that is no address stays, with a warning": {
			service: svc("a").ClusterIP("here").Obj(),
			want:    outcome{ClusterIP: "here", Notes: []string{ReasonClusterIPNotValid}},
		},
		"of two with one address the younger gets another": {
			service: svc("a").ClusterIP("10.254.0.99").Obj(),
			others:  []*keelsonv1.Service{svc("b").Created(older).ClusterIP("10.254.0.99").Obj()},
			want:    outcome{ClusterIP: "10.254.0.17", Notes: []string{ReasonClusterIPAlreadyAllocated}},
		},
		"the older keeps it and names the loser": {
			service: svc("a").Created(older).ClusterIP("10.254.0.99").Obj(),
			others:  []*keelsonv1.Service{svc("b").ClusterIP("10.254.0.99").Obj()},
			want:    outcome{ClusterIP: "10.254.0.99", Losers: []string{"b"}},
		},
		"born in the same second: the UID decides": {
			service: svc("b").ClusterIP("10.254.0.99").Obj(),
			others:  []*keelsonv1.Service{svc("a").ClusterIP("10.254.0.99").Obj()},
			want:    outcome{ClusterIP: "10.254.0.17", Notes: []string{ReasonClusterIPAlreadyAllocated}},
		},
		"default/kubernetes keeps the first address from an older Service": {
			service: svc("kubernetes").ClusterIP("10.254.0.1").Obj(),
			others:  []*keelsonv1.Service{svc("b").Created(older).ClusterIP("10.254.0.1").Obj()},
			want:    outcome{ClusterIP: "10.254.0.1", Losers: []string{"b"}},
		},
		"a full range is said and retried": {
			service: svc("a").Obj(), cidr: "10.254.0.0/28", others: fill("10.254.0.0/28"),
			want: outcome{Notes: []string{ReasonServiceCIDRFull}, Short: true},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cidr := tc.cidr
			if cidr == "" {
				cidr = "10.254.0.0/24"
			}
			got := makePlan(tc.service, computeLedger(listOf(tc.service, tc.others...), tc.service), testRanges(t, cidr, "30000-30999"))
			if diff := cmp.Diff(tc.want, outcomeOf(got)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if ip := got.spec.ClusterIP; ip != "" && !slices.Equal(got.spec.ClusterIPs, []string{ip}) {
				t.Errorf("clusterIPs %v do not go with clusterIP %s", got.spec.ClusterIPs, ip)
			}
		})
	}
}

func TestMakePlanPorts(t *testing.T) {
	nodePortService := func(name string) *builders.ServiceBuilder {
		return svc(name).Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.0.50").Port("http", 80, 80)
	}
	local := func(s *keelsonv1.Service) *keelsonv1.Service {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		return s
	}
	other := func(port int32) *keelsonv1.Service {
		return svc("b").Created(older).Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.0.51").Port("http", 80, 80).NodePort(port).Obj()
	}
	tests := map[string]struct {
		service *keelsonv1.Service
		others  []*keelsonv1.Service
		ports   string
		want    outcome
	}{
		"each port gets a number above the static band": {
			service: nodePortService("a").Port("https", 443, 443).Obj(),
			want:    outcome{NodePorts: []int32{30031, 30032}},
		},
		"one port over TCP and UDP gets one number": {
			service: udp(nodePortService("a"), 80).Obj(),
			want:    outcome{NodePorts: []int32{30031, 30031}},
		},
		"so it does when UDP comes first, where no second number is free": {
			service: udp(svc("a").Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.0.50"), 80).Port("http", 80, 80).Obj(),
			ports:   "30000-30000",
			want:    outcome{NodePorts: []int32{30000, 30000}},
		},
		"the health check port is not the number of a UDP port": {
			service: local(udp(svc("a").Type(corev1.ServiceTypeLoadBalancer).ClusterIP("10.254.0.50"), 80).Obj()),
			want:    outcome{NodePorts: []int32{30031}, HealthCheck: 30032},
		},
		"a number that it has stays": {
			service: nodePortService("a").NodePort(30007).Port("https", 443, 443).Obj(),
			want:    outcome{NodePorts: []int32{30007, 30031}},
		},
		"a number in use is passed over": {
			service: nodePortService("a").Obj(), others: []*keelsonv1.Service{other(30031)},
			want: outcome{NodePorts: []int32{30032}},
		},
		"a number in use for the other protocol may be asked for": {
			service: udp(svc("a").Type(corev1.ServiceTypeNodePort).ClusterIP("10.254.0.50"), 53).NodePort(30031).Obj(),
			others:  []*keelsonv1.Service{other(30031)},
			want:    outcome{NodePorts: []int32{30031}},
		},
		"of two with one number the younger gets another": {
			service: nodePortService("a").NodePort(30500).Obj(), others: []*keelsonv1.Service{other(30500)},
			want: outcome{NodePorts: []int32{30031}, Notes: []string{ReasonPortAlreadyAllocated}},
		},
		"the older names the loser": {
			service: nodePortService("a").Created(time.Unix(1, 0)).NodePort(30500).Obj(), others: []*keelsonv1.Service{other(30500)},
			want: outcome{NodePorts: []int32{30500}, Losers: []string{"b"}},
		},
		"a number outside the range stays, with a warning": {
			service: nodePortService("a").NodePort(80).Obj(),
			want:    outcome{NodePorts: []int32{80}, Notes: []string{ReasonPortOutOfRange}},
		},
		"one number for two ports of a protocol: the second gets another": {
			service: nodePortService("a").NodePort(30500).Port("https", 443, 443).NodePort(30500).Obj(),
			want:    outcome{NodePorts: []int32{30500, 30031}, Notes: []string{ReasonPortAlreadyAllocated}},
		},
		"back to ClusterIP: the numbers are given back": {
			service: nodePortService("a").NodePort(30500).Type(corev1.ServiceTypeClusterIP).Obj(),
			want:    outcome{NodePorts: []int32{0}},
		},
		"a full range gives what it can": {
			service: nodePortService("a").Port("https", 443, 443).Obj(), ports: "30000-30000",
			want: outcome{NodePorts: []int32{30000, 0}, Notes: []string{ReasonPortRangeFull}, Short: true},
		},
		"local traffic of a load balancer needs a health check port": {
			service: local(nodePortService("a").Type(corev1.ServiceTypeLoadBalancer).Obj()),
			want:    outcome{NodePorts: []int32{30031}, HealthCheck: 30032},
		},
		"a load balancer may do without node ports": {
			service: func() *keelsonv1.Service {
				s := nodePortService("a").Type(corev1.ServiceTypeLoadBalancer).Obj()
				s.Spec.AllocateLoadBalancerNodePorts = new(false)
				return s
			}(),
			want: outcome{NodePorts: []int32{0}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			ports := tc.ports
			if ports == "" {
				ports = "30000-30999"
			}
			got := makePlan(tc.service, computeLedger(listOf(tc.service, tc.others...), tc.service), testRanges(t, "10.254.0.0/24", ports))
			tc.want.ClusterIP = "10.254.0.50"
			if diff := cmp.Diff(tc.want, outcomeOf(got)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanIsSpreadOverTheRange(t *testing.T) {
	r := testRanges(t, svcranges.DefaultServiceCIDR, svcranges.DefaultNodePortRange)
	r.intN = rand.New(rand.NewPCG(1, 2)).IntN
	seen := map[string]bool{}
	for range 50 {
		seen[makePlan(svc("a").Obj(), computeLedger(nil, svc("a").Obj()), r).spec.ClusterIP] = true
	}
	if len(seen) < 45 {
		t.Errorf("50 draws gave %d addresses: not random", len(seen))
	}
}

// Each family of a Service has an address of its own range, in the order of the families.
func TestAddressesOfBothFamilies(t *testing.T) {
	const v4, v6 = corev1.IPv4Protocol, corev1.IPv6Protocol
	for name, tc := range map[string]struct {
		families []corev1.IPFamily
		had      []string
		want     []string
		notes    []string
	}{
		"IPv4 first":                     {[]corev1.IPFamily{v4, v6}, nil, []string{"10.0.0.2", "fd00::2"}, nil},
		"IPv6 first":                     {[]corev1.IPFamily{v6, v4}, nil, []string{"fd00::2", "10.0.0.2"}, nil},
		"IPv6 only":                      {[]corev1.IPFamily{v6}, nil, []string{"fd00::2"}, nil},
		"a second family later":          {[]corev1.IPFamily{v4, v6}, []string{"10.0.0.7"}, []string{"10.0.0.7", "fd00::2"}, nil},
		"a second family given up":       {[]corev1.IPFamily{v4}, []string{"10.0.0.7", "fd00::7"}, []string{"10.0.0.7"}, nil},
		"an address that another has":    {[]corev1.IPFamily{v4, v6}, []string{"10.0.0.7", "fd00::5"}, []string{"10.0.0.7", "fd00::2"}, []string{ReasonClusterIPAlreadyAllocated}},
		"headless has none":              {[]corev1.IPFamily{v4, v6}, []string{"None"}, []string{"None"}, nil},
		"an address from another range":  {[]corev1.IPFamily{v6}, []string{"fd99::7"}, []string{"fd99::7"}, []string{ReasonClusterIPOutOfRange}},
		"an address that is none, alone": {[]corev1.IPFamily{v4}, []string{"x"}, []string{"x"}, []string{ReasonClusterIPNotValid}},
	} {
		t.Run(name, func(t *testing.T) {
			service := svc("a").Created(younger).Obj()
			service.Spec.IPFamilies, service.Spec.ClusterIPs = tc.families, tc.had
			if len(tc.had) > 0 {
				service.Spec.ClusterIP = tc.had[0]
			}
			other := svc("b").Created(older).ClusterIP("fd00::5").Obj()
			p := makePlan(service, computeLedger(listOf(service, other), service), testRanges(t, "10.0.0.0/28,fd00::/124", "30000-30999"))
			if diff := cmp.Diff(tc.want, p.spec.ClusterIPs); diff != "" || p.spec.ClusterIP != tc.want[0] {
				t.Errorf("clusterIP %s, clusterIPs (-want +got):\n%s", p.spec.ClusterIP, diff)
			}
			if diff := cmp.Diff(tc.notes, outcomeOf(p).Notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
	gone := svc("a").ClusterIP("10.0.0.7").Obj()
	gone.Spec.IPFamilies = []corev1.IPFamily{v4, v6}
	p := makePlan(gone, computeLedger(listOf(gone), gone), testRanges(t, "10.0.0.0/28", "30000-30999"))
	if got := outcomeOf(p); !got.Short || !slices.Equal(got.Notes, []string{ReasonFamilyNotConfigured}) || got.ClusterIP != "10.0.0.7" {
		t.Errorf("without a range of the second family: %+v", got)
	}
}

func TestParseAPIServer(t *testing.T) {
	for _, bad := range []string{"10.0.0.1", "example.org:6443", "10.0.0.1:0", "[fd00::1]:6443", ""} {
		if _, err := parseAPIServer([]string{bad}, true); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	got, err := parseAPIServer([]string{"10.0.0.2:6443", "10.0.0.1:6443", "10.0.0.2:6443"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var ips []string
	for _, a := range renderKubernetesEndpoints(&keelsonv1.Endpoints{}, got).Subsets[0].Addresses {
		ips = append(ips, a.IP)
	}
	if diff := cmp.Diff([]string{"10.0.0.1", "10.0.0.2"}, ips); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func listOf(service *keelsonv1.Service, others ...*keelsonv1.Service) []keelsonv1.Service {
	list := []keelsonv1.Service{*service}
	for _, o := range others {
		list = append(list, *o)
	}
	return list
}

// fill returns a Service for each address of cidr that may be given away.
func fill(cidr string) []*keelsonv1.Service {
	r, err := svcranges.ParseServiceCIDR(cidr)
	if err != nil {
		panic(err)
	}
	var all []*keelsonv1.Service
	for offset := 1; offset <= r.Size(); offset++ {
		addr := r.At(offset)
		if addr != r.KubernetesAddress() && addr != r.DNSAddress() {
			all = append(all, svc(addr.String()).ClusterIP(addr.String()).Obj())
		}
	}
	return all
}
