package local

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// dual are the flags of a cluster of three nodes whose Pods and Services have both
// families.
func dual(change func(*Options)) Options {
	o := withNodes(3)
	o.ClusterCIDR, o.ServiceCIDR = "10.244.0.0/16,fd00:10:244::/56", "10.254.0.0/16,fd00:10:254::/112"
	if change != nil {
		change(&o)
	}
	return o
}

func TestNodesHaveIPv6AsTheirPods(t *testing.T) {
	tests := map[string]struct {
		options                Options
		wantNode, wantGateway6 string
		wantNetworks           string
	}{
		"Pods of IPv4":       {options: withNodes(3), wantNode: "198.19.0.2", wantNetworks: "198.19.0.0/24"},
		"Pods of both":       {options: dual(nil), wantNode: "198.19.0.2,fd00:198:19::2", wantGateway6: "fd00:198:19::1", wantNetworks: "198.19.0.0/24,fd00:198:19::/64"},
		"a network of one's": {options: dual(func(o *Options) { o.NodeNetwork = "2001:db8:7::/64,172.30.0.0/16" }), wantNode: "172.30.0.2,2001:db8:7::2", wantGateway6: "2001:db8:7::1", wantNetworks: "172.30.0.0/16,2001:db8:7::/64"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.options.Validate(); err != nil {
				t.Fatal(err)
			}
			s, err := decideSettings(nil, tt.options, layoutIn("/data"), elsewhere())
			if err != nil {
				t.Fatal(err)
			}
			p := testPlan(s)
			if args := p.nodeArgs(p.inNamespaces(s.Nodes[0])); !slices.Contains(args, "--node-ip="+tt.wantNode) {
				t.Errorf("no --node-ip=%s in %q", tt.wantNode, args)
			}
			if want := "--node-ip=" + joinAddresses(s.NodeIP, s.NodeIP6); !slices.Contains(p.hostProxyArgs(), want) {
				t.Errorf("no %s in the flags of this machine's proxy: %q", want, p.hostProxyArgs())
			}
			if got := s.NodeIP6; tt.wantGateway6 == "" && got.IsValid() || tt.wantGateway6 != "" && got.String() != tt.wantGateway6 {
				t.Errorf("this machine has %s, want %q", got, tt.wantGateway6)
			}
			if diff := cmp.Diff(tt.wantNetworks, s.nodeNetworks()); diff != "" {
				t.Errorf("networks (-want +got):\n%s", diff)
			}
			if got := nodesOptions(p.layout, s).Network6; got != s.NodeNetwork6 {
				t.Errorf("the machine makes %s", got)
			}
		})
	}
}

func TestAddressesOfNodesAreRefused(t *testing.T) {
	tests := map[string]struct {
		options Options
		want    string
	}{
		"an IPv6 network alone":               {dual(func(o *Options) { o.NodeNetwork = "fd00::/64" }), "--node-network: \"fd00::/64\" has no IPv4 range"},
		"one too small":                       {dual(func(o *Options) { o.NodeNetwork = "198.19.0.0/24,fd00::/121" }), "--node-network: fd00::/121 has fewer addresses than 198.19.0.0/24"},
		"one that Pods use":                   {dual(func(o *Options) { o.NodeNetwork = "198.19.0.0/24,fd00:10:244::/64" }), "--node-network: fd00:10:244::/64 overlaps fd00:10:244::/56 (--cluster-cidr)"},
		"the default, if Services use it":     {dual(func(o *Options) { o.ServiceCIDR = "10.254.0.0/16,fd00:198:19::/112" }), "--node-network: fd00:198:19::/64 overlaps fd00:198:19::/112 (--service-cidr)"},
		"addresses of links":                  {dual(func(o *Options) { o.NodeNetwork = "198.19.0.0/24,fe80::/64" }), "--node-network: fe80::/64 is not for addresses of machines"},
		"two addresses of one family":         {Options{NodeIP: "192.0.2.1,192.0.2.2"}, "--node-ip: \"192.0.2.1,192.0.2.2\" has two addresses of one family"},
		"an IPv6 address alone":               {Options{NodeIP: "2001:db8::1"}, "--node-ip: \"2001:db8::1\" has no IPv4 address"},
		"an address of a link":                {Options{NodeIP: "192.0.2.1,fe80::1%eth0"}, "--node-ip: \"fe80::1%eth0\" is not an address of this machine"},
		"Services of IPv6 and Pods of IPv4":   {dual(func(o *Options) { o.ClusterCIDR = "10.244.0.0/16" }), "--service-cidr: fd00:10:254::/112 is of a family that --cluster-cidr (10.244.0.0/16) lacks: Pods could not reach such Services"},
		"Pods of both and Services of IPv4":   {dual(func(o *Options) { o.ServiceCIDR = "10.254.0.0/16" }), "--service-cidr: 10.254.0.0/16 lacks a range of the family of --cluster-cidr fd00:10:244::/56"},
		"a cluster of IPv6 alone is not made": {dual(func(o *Options) { o.ClusterCIDR, o.ServiceCIDR = "fd00:10:244::/56", "fd00:10:254::/112" }), "has no IPv4 range, which every cluster needs"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := tt.options.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTheOnlyNodeMayHaveBothFamilies(t *testing.T) {
	o, m := *NewOptions(), quiet()
	o.NodeIP = "192.0.2.1,2001:db8::1"
	s, err := decideSettings(nil, o, layoutIn("/data"), m)
	if err != nil {
		t.Fatal(err)
	}
	if args := testPlan(s).commands()[nameNode].Args; !slices.Contains(args, "--node-ip=192.0.2.1,2001:db8::1") || !slices.Contains(args, "--server-address=192.0.2.1") {
		t.Errorf("the agent's flags: %q", args)
	}
	o.NodeIP = "192.0.2.1"
	if err := sameWhileRunning(s, o); err == nil || !strings.Contains(err.Error(), "the cluster runs on 192.0.2.1,2001:db8::1") {
		t.Errorf("another address while it runs: %v", err)
	}
	o.NodeIP = "192.0.2.1,2001:db8::1"
	m.free = func(a netip.Addr, _ int) bool { return a.Is4() }
	if _, err := decideSettings(nil, o, layoutIn("/data"), m); err == nil || !strings.Contains(err.Error(), "--node-ip: cannot listen on 2001:db8::1") {
		t.Errorf("an address that the machine does not have: %v", err)
	}
}

func TestPoolIsApartFromIPv6AddressesOfNodes(t *testing.T) {
	s, err := decideSettings(nil, dual(func(o *Options) { o.LoadBalancerPool = []string{"fd00:198:19::3-fd00:198:19::10"} }), layoutIn("/data"), elsewhere())
	if err != nil {
		t.Fatal(err)
	}
	// The second node makes way: its IPv6 address would be in the pool.
	if got := s.Nodes[1].Address.String(); got != "198.19.0.17" {
		t.Errorf("the second node is at %s", got)
	}
	if err := s.addNamed("extra", "198.19.0.5"); err == nil || !strings.Contains(err.Error(), "fd00:198:19::5 is in the pool") {
		t.Errorf("error %v", err)
	}
}

func TestRoutesToPodsOfBothFamilies(t *testing.T) {
	s, err := decideSettings(nil, dual(nil), layoutIn("/data"), elsewhere())
	if err != nil {
		t.Fatal(err)
	}
	n := keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	n.Spec.PodCIDRs = []string{"10.244.0.0/24", "fd00:10:244::/64"}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "198.19.0.2"}, {Type: corev1.NodeInternalIP, Address: "fd00:198:19::2"}, {Type: corev1.NodeHostName, Address: "a"},
	}
	r, err := computeRoutes(s, []keelsonv1.Node{n})
	if err != nil {
		t.Fatal(err)
	}
	want := map[netip.Prefix]netip.Addr{
		netip.MustParsePrefix("10.244.0.0/24"):    netip.MustParseAddr("198.19.0.2"),
		netip.MustParsePrefix("fd00:10:244::/64"): netip.MustParseAddr("fd00:198:19::2"),
	}
	if diff := cmp.Diff(want, r.Nodes, compareAddr); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}
