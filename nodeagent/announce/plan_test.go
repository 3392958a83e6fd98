package announce

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

func TestOnlyWhatKeelsonGaveIsAnnounced(t *testing.T) {
	pool, err := addrpool.Parse([]string{"192.0.2.10-192.0.2.20"})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		change func(*keelsonv1.Service)
		want   int
	}{
		"an address of the pool":             {change: func(*keelsonv1.Service) {}, want: 1},
		"of our class":                       {change: func(s *keelsonv1.Service) { s.Spec.LoadBalancerClass = new(keelsonv1.LoadBalancerClass) }, want: 1},
		"not of another class":               {change: func(s *keelsonv1.Service) { s.Spec.LoadBalancerClass = new("example.com/other") }},
		"not of another type":                {change: func(s *keelsonv1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }},
		"not of a Service that is deleted":   {change: func(s *keelsonv1.Service) { s.DeletionTimestamp = new(metav1.Now()) }},
		"not an address outside of the pool": {change: func(s *keelsonv1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "192.0.2.1" }},
		"not what is only a name":            {change: func(s *keelsonv1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := &keelsonv1.Service{}
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.10"}}
			tt.change(s)
			if got := addressesOf(s, pool); len(got) != tt.want {
				t.Errorf("announces %v, want %d", got, tt.want)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	ready := member{ready: true}
	tests := map[string]struct {
		members map[string]member
		local   map[string]bool
		want    []string // sorted
		count   int
	}{
		"few nodes all stand by":             {members: map[string]member{"a": ready, "b": ready}, want: []string{"a", "b"}},
		"of many only some":                  {members: map[string]member{"a": ready, "b": ready, "c": ready, "d": ready, "e": ready}, count: candidatesOfAddress},
		"a silent node does not":             {members: map[string]member{"a": ready, "b": {}}, want: []string{"a"}},
		"unless all are":                     {members: map[string]member{"a": {}, "b": {}}, want: []string{"a", "b"}},
		"an excluded one never":              {members: map[string]member{"a": {excluded: true, ready: true}}},
		"nor a cordoned one":                 {members: map[string]member{"a": {unschedulable: true, ready: true}, "b": ready}, want: []string{"b"}},
		"local: only those with an endpoint": {members: map[string]member{"a": ready, "b": ready}, local: map[string]bool{"b": true}, want: []string{"b"}},
		"local without endpoints: nobody":    {members: map[string]member{"a": ready}, local: map[string]bool{}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := candidates(netip.MustParseAddr("192.0.2.10"), tt.members, tt.local)
			slices.Sort(got)
			if tt.count != 0 && len(got) == tt.count {
				return
			}
			if tt.count != 0 || !slices.Equal(got, tt.want) {
				t.Errorf("candidates %v, want %v, %d", got, tt.want, tt.count)
			}
		})
	}
}

// TestAddressesAreSpread finds every node first in line for some of 100 addresses.
func TestAddressesAreSpread(t *testing.T) {
	members := map[string]member{}
	for i := range 5 {
		members[fmt.Sprint("node-", i)] = member{ready: true}
	}
	first := map[string]int{}
	for i := range 100 {
		first[candidates(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), members, nil)[0]]++
	}
	for name := range members {
		if first[name] < 5 {
			t.Errorf("node %s is first for %d addresses: %v", name, first[name], first)
		}
	}
}

func TestEndpointNodes(t *testing.T) {
	slice := discoveryv1.EndpointSlice{}
	slice.Endpoints = []upstreamdiscoveryv1.Endpoint{
		{NodeName: new("a"), Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(true)}},
		{NodeName: new("b"), Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(false)}},
		{NodeName: new("c")},
		{},
	}
	got := endpointNodes([]discoveryv1.EndpointSlice{slice})
	if len(got) != 2 || !got["a"] || !got["c"] {
		t.Errorf("nodes %v, want a and c", got)
	}
}

func TestLeaseNames(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.10": "load-balancer.192.0.2.10", "fd00::1": "load-balancer.fd00-0000-0000-0000-0000-0000-0000-0001",
	} {
		if got := leaseName(netip.MustParseAddr(addr)); got != want || strings.ToLower(got) != got {
			t.Errorf("Lease of %s is %s, want %s", addr, got, want)
		}
	}
}
