package summary

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

func TestEndpointSlice(t *testing.T) {
	type port = upstreamdiscoveryv1.EndpointPort
	numbers := func(all ...int32) []port {
		var ports []port
		for _, n := range all {
			ports = append(ports, port{Port: &n})
		}
		return ports
	}
	at := func(addresses ...string) upstreamdiscoveryv1.Endpoint {
		return upstreamdiscoveryv1.Endpoint{Addresses: addresses}
	}
	for name, tc := range map[string]struct {
		ports     []port
		endpoints []upstreamdiscoveryv1.Endpoint
		want      discoveryv1.EndpointSliceSummary
	}{
		"nothing":               {want: discoveryv1.EndpointSliceSummary{Ports: "<unset>", Endpoints: "<unset>"}},
		"one port, two Pods":    {numbers(80), []upstreamdiscoveryv1.Endpoint{at("10.0.0.1"), at("10.0.0.2")}, discoveryv1.EndpointSliceSummary{Ports: "80", Endpoints: "10.0.0.1,10.0.0.2"}},
		"three are still shown": {numbers(1, 2, 3), []upstreamdiscoveryv1.Endpoint{at("a", "b"), at("c")}, discoveryv1.EndpointSliceSummary{Ports: "1,2,3", Endpoints: "a,b,c"}},
		"five are counted":      {numbers(1, 2, 3, 4, 5), []upstreamdiscoveryv1.Endpoint{at("a", "b"), at("c", "d"), at("e")}, discoveryv1.EndpointSliceSummary{Ports: "1,2,3 + 2 more...", Endpoints: "a,b,c + 2 more..."}},
		"every port, or a name": {[]port{{}, {Name: new("web")}}, []upstreamdiscoveryv1.Endpoint{at("a")}, discoveryv1.EndpointSliceSummary{Ports: "*,web", Endpoints: "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, EndpointSlice(tc.ports, tc.endpoints)); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
		})
	}
}
