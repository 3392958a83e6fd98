package manager

import (
	"net/netip"
	"testing"
)

func TestReservedAddresses(t *testing.T) {
	o := Options{
		ServiceCIDR: "10.254.0.0/16,fd00:1::/112", ClusterCIDR: "10.244.0.0/16", LoadBalancerPool: []string{"192.0.2.7-192.0.2.9"},
		KubernetesServiceEndpoints: []string{"198.51.100.1:6443", "[2001:db8::1]:6443"},
	}
	reserved, err := o.reservedAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.254.0.1": true, "fd00:1::a": true, "10.244.3.4": true, "192.0.2.8": true, "198.51.100.1": true, "2001:db8::1": true,
		"192.0.2.6": false, "198.51.100.2": false, "2001:db8::2": false,
	} {
		if got := reserved(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %t", addr, got)
		}
	}
}
