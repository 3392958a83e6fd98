package service

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
)

func TestOnlyAPIServersThatAreThereAreServed(t *testing.T) {
	slice := func(endpoints ...upstreamdiscoveryv1.Endpoint) upstreamdiscoveryv1.EndpointSlice {
		return upstreamdiscoveryv1.EndpointSlice{Endpoints: endpoints}
	}
	ready := func(address string) upstreamdiscoveryv1.Endpoint {
		return upstreamdiscoveryv1.Endpoint{Addresses: []string{address}, Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(true)}}
	}
	all := []string{"192.0.2.1:6444", "192.0.2.2:6444", "192.0.2.3:6444"}
	tests := map[string]struct {
		registered []upstreamdiscoveryv1.EndpointSlice
		want       []string
	}{
		"all are there":                    {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.3"), ready("192.0.2.1"), ready("192.0.2.2"))}, all},
		"one is gone":                      {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.3"), ready("192.0.2.1"))}, []string{all[0], all[2]}},
		"two slices":                       {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.3")), slice(ready("192.0.2.2"))}, all[1:]},
		"one that is not ready":            {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.3"), upstreamdiscoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}, Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(false)}})}, all[2:]},
		"one whose readiness nobody knows": {[]upstreamdiscoveryv1.EndpointSlice{slice(upstreamdiscoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})}, all[:1]},
		"one that the flag does not name":  {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.3"), ready("192.0.2.9"))}, all[2:]},
		"none has registered":              {nil, all},
		"none of them has registered":      {[]upstreamdiscoveryv1.EndpointSlice{slice(ready("192.0.2.9"))}, all},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			server, err := parseAPIServer(all, true)
			if err != nil {
				t.Fatal(err)
			}
			var want []netip.AddrPort
			for _, text := range tc.want {
				want = append(want, netip.MustParseAddrPort(text))
			}
			got := server.present(tc.registered).addresses
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}
