package render

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/proxy/iptables"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

func bookPort(endpoints ...string) model.ServicePort {
	p := model.ServicePort{
		Name:     model.PortName{Service: types.NamespacedName{Namespace: "default", Name: "myservice"}, Port: "http"},
		Protocol: model.TCP, ClusterIP: netip.MustParseAddr("10.254.206.148"), Port: 80,
	}
	for _, e := range endpoints {
		p.Endpoints = append(p.Endpoints, model.Endpoint{Address: netip.MustParseAddrPort(e), Ready: true, Serving: true})
	}
	return p
}

func testFacts() Facts {
	return NewFacts(model.IPv4, model.NodeFacts{
		ClusterCIDR: netip.MustParsePrefix("10.0.0.0/16"), PodCIDR: netip.MustParsePrefix("10.0.62.0/24"),
		ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16"),
	})
}

// The hashes are those that the book prints (rows PX-09, PRX-11).
func TestChainNamesAreTheBooks(t *testing.T) {
	p := bookPort()
	got := []string{
		ServiceChain(&p), EndpointChain(&p, netip.MustParseAddrPort("10.0.62.87:80")),
		EndpointChain(&p, netip.MustParseAddrPort("10.0.62.88:80")), EndpointChain(&p, netip.MustParseAddrPort("10.0.62.89:80")),
	}
	want := []string{
		"KLS-SVC-YZPZUSJVGCLDKDHP", "KLS-SEP-5534AF2Y644GLPZI", "KLS-SEP-5UWZC74U4HN6VNI5", "KLS-SEP-W2TMLVNCN2RGF2MT",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestServiceChains(t *testing.T) {
	p := bookPort("10.0.62.87:80", "10.0.62.88:80")
	p.AffinitySeconds, p.NodePort = 10800, 30080
	got := Service(model.Service{Name: p.Name.Service, Ports: []model.ServicePort{p}}, testFacts())
	const name, sep7, sep8 = "default/myservice:http", "KLS-SEP-5534AF2Y644GLPZI", "KLS-SEP-5UWZC74U4HN6VNI5"
	endpoint := func(chain, ip string) iptables.Chain {
		return iptables.Chain{Table: "nat", Name: chain, Rules: []iptables.Rule{
			{Match: "-s " + ip + "/32", Action: "-j KLS-MARK-MASQ", Comment: name + " hairpin"},
			{Match: "-p tcp -m recent --name " + chain + " --set", Action: "-j DNAT --to-destination " + ip + ":80", Comment: name},
		}}
	}
	group := netip.MustParsePrefix("10.254.206.0/24")
	want := ServiceRules{
		Chains: []iptables.Chain{
			{Table: "nat", Name: "KLS-SVC-YZPZUSJVGCLDKDHP", Rules: []iptables.Rule{
				{Match: "-m recent --name " + sep7 + " --rcheck --seconds 10800 --reap", Action: "-j " + sep7, Comment: name + " to 10.0.62.87:80"},
				{Match: "-m recent --name " + sep8 + " --rcheck --seconds 10800 --reap", Action: "-j " + sep8, Comment: name + " to 10.0.62.88:80"},
				{Match: "-m statistic --mode random --probability 0.5000000000", Action: "-j " + sep7, Comment: name + " to 10.0.62.87:80"},
				{Action: "-j " + sep8, Comment: name + " to 10.0.62.88:80"},
			}},
			endpoint(sep7, "10.0.62.87"), endpoint(sep8, "10.0.62.88"),
			{Table: "nat", Name: "KLS-EXT-YZPZUSJVGCLDKDHP", Rules: []iptables.Rule{
				{Action: "-j KLS-MARK-MASQ", Comment: name + " from outside"},
				{Action: "-j KLS-SVC-YZPZUSJVGCLDKDHP", Comment: name + " from outside"},
			}},
		},
		Shared: map[ChainID][]iptables.Rule{
			{"nat", GroupChain(group)}: {{Match: "-d 10.254.206.148/32 -p tcp -m tcp --dport 80", Action: "-j KLS-SVC-YZPZUSJVGCLDKDHP", Comment: name + " cluster IP"}},
			{"nat", NodePorts}:         {{Match: "-p tcp -m tcp --dport 30080", Action: "-j KLS-EXT-YZPZUSJVGCLDKDHP", Comment: name + " node port"}},
		},
		Groups: []netip.Prefix{group},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// An endpoint of another node is one rule, one that may be a Pod of this node a chain.
func TestEndpointsOfOtherNodesHaveNoChain(t *testing.T) {
	p := bookPort("10.0.1.2:80", "10.0.62.87:80")
	got := Service(model.Service{Name: p.Name.Service, Ports: []model.ServicePort{p}}, testFacts()).Chains
	const name, sep = "default/myservice:http", "KLS-SEP-5534AF2Y644GLPZI"
	want := []iptables.Chain{
		{Table: "nat", Name: "KLS-SVC-YZPZUSJVGCLDKDHP", Rules: []iptables.Rule{
			{Match: "-p tcp -m statistic --mode random --probability 0.5000000000", Action: "-j DNAT --to-destination 10.0.1.2:80", Comment: name},
			{Action: "-j " + sep, Comment: name + " to 10.0.62.87:80"},
		}},
		{Table: "nat", Name: sep, Rules: []iptables.Rule{
			{Match: "-s 10.0.62.87/32", Action: "-j KLS-MARK-MASQ", Comment: name + " hairpin"},
			{Match: "-p tcp", Action: "-j DNAT --to-destination 10.0.62.87:80", Comment: name},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
}
