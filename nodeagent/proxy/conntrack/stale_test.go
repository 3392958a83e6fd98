package conntrack

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

func TestStale(t *testing.T) {
	local := netip.MustParseAddr("192.0.2.1")
	w := NewWanted(netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.254.0.0/16"), []netip.Addr{local})
	w.AddService(model.Service{Name: types.NamespacedName{Namespace: "a", Name: "dns"}, Ports: []model.ServicePort{
		{Protocol: model.UDP, ClusterIP: netip.MustParseAddr("10.254.0.10"), Port: 53, NodePort: 30053,
			ExternalIPs: []netip.Addr{netip.MustParseAddr("203.0.113.1")}, LoadBalancerIPs: []netip.Addr{netip.MustParseAddr("203.0.113.2")},
			Endpoints: []model.Endpoint{
				{Address: netip.MustParseAddrPort("10.244.1.2:53"), Ready: true},
				{Address: netip.MustParseAddrPort("10.244.1.7:53"), Serving: true, Terminating: true},
				{Address: netip.MustParseAddrPort("10.244.1.8:53"), Terminating: true},
			}},
	}})
	w.AddHostPort(model.HostPort{Protocol: model.UDP, HostPort: 8000, Target: netip.MustParseAddrPort("10.244.1.3:80")})
	for name, tc := range map[string]struct {
		to, from string
		want     bool
	}{
		"to an endpoint that the Service has":           {"10.254.0.10:53", "10.244.1.2:53", false},
		"to an endpoint that it had":                    {"10.254.0.10:53", "10.244.1.9:53", true},
		"to the cluster address, never translated":      {"10.254.0.10:53", "10.254.0.10:53", true},
		"to a Service that is gone":                     {"10.254.0.99:53", "10.244.1.2:53", true},
		"through the node port":                         {"192.0.2.1:30053", "10.244.1.2:53", false},
		"through the node port to an endpoint it had":   {"192.0.2.1:30053", "10.244.1.9:53", true},
		"through a node port that is gone":              {"192.0.2.1:30099", "10.244.1.2:53", true},
		"through a host port":                           {"192.0.2.1:8000", "10.244.1.3:80", false},
		"a program of the node":                         {"192.0.2.1:123", "192.0.2.1:123", false},
		"translated by somebody else":                   {"192.0.2.1:5000", "172.17.0.2:5000", false},
		"the node port's number on another machine":     {"198.51.100.1:30053", "198.51.100.1:30053", false},
		"to an endpoint that terminates and serves":     {"10.254.0.10:53", "10.244.1.7:53", false},
		"to an endpoint that terminates and does not":   {"10.254.0.10:53", "10.244.1.8:53", true},
		"to an external address":                        {"203.0.113.1:53", "10.244.1.2:53", false},
		"to an external address, to an endpoint it had": {"203.0.113.1:53", "10.244.1.9:53", true},
		"to an external address, never translated":      {"203.0.113.1:53", "203.0.113.1:53", true},
		"to a balancer's address":                       {"203.0.113.2:53", "10.244.1.2:53", false},
		"to a balancer's address, an endpoint it had":   {"203.0.113.2:53", "10.244.1.9:53", true},
		"to an external address that is gone":           {"203.0.113.9:53", "10.244.1.2:53", true},
		"Pod to Pod":                                    {"10.244.1.2:53", "10.244.1.2:53", false},
	} {
		t.Run(name, func(t *testing.T) {
			got := w.Stale(Flow{To: netip.MustParseAddrPort(tc.to), From: netip.MustParseAddrPort(tc.from)})
			if got != tc.want {
				t.Errorf("Stale = %v, want %v", got, tc.want)
			}
		})
	}
}
