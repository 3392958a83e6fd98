package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

const (
	bridgeIndex = 7
	wanIndex    = 2
	vethIndex   = 9
)

var (
	gateway      = netip.MustParseAddr("10.244.0.1")
	clusterRoute = netlinkx.Route{Dst: netip.MustParsePrefix("10.244.0.0/16"), Unreachable: true, Protocol: routeProtocol}
	serviceRoute = netlinkx.Route{Dst: netip.MustParsePrefix("10.254.0.0/16"), Link: bridgeIndex, Src: gateway, Protocol: routeProtocol}
	gatewayAddr  = netlinkx.Addr{Link: bridgeIndex, Prefix: netip.MustParsePrefix("10.244.0.1/32")}
)

func snapshotWith(addrs []netlinkx.Addr, routes ...netlinkx.Route) hostSnapshot {
	return hostSnapshot{
		links: []netlinkx.Link{
			{Index: wanIndex, Name: "wan0", MTU: 1400},
			{Index: bridgeIndex, Name: "keelson0", Kind: "bridge", MTU: 1500},
			{Index: vethIndex, Name: linkName("uid-a"), Kind: "veth"},
		},
		addrs: addrs, routes: routes,
	}
}

func TestPlanHost(t *testing.T) {
	oldAddr := netlinkx.Addr{Link: bridgeIndex, Prefix: netip.MustParsePrefix("10.244.5.1/32")}
	wanAddr := netlinkx.Addr{Link: wanIndex, Prefix: netip.MustParsePrefix("192.0.2.2/24")}
	podRoute := netlinkx.Route{Dst: netip.MustParsePrefix("10.244.0.2/32"), Link: vethIndex, Src: gateway, Protocol: routeProtocol}
	stale := netlinkx.Route{Dst: netip.MustParsePrefix("10.96.0.0/12"), Link: bridgeIndex, Protocol: routeProtocol}
	foreign := netlinkx.Route{Dst: netip.MustParsePrefix("172.17.0.0/16"), Link: wanIndex, Protocol: 2}

	for name, tc := range map[string]struct {
		have hostSnapshot
		want hostPlan
	}{
		"everything is made on a fresh host": {
			have: snapshotWith([]netlinkx.Addr{wanAddr}),
			want: hostPlan{setAddrs: []netlinkx.Addr{gatewayAddr}, setRoutes: []netlinkx.Route{clusterRoute, serviceRoute}},
		},
		"nothing is done when all is right": {
			have: snapshotWith([]netlinkx.Addr{wanAddr, gatewayAddr}, serviceRoute, podRoute, clusterRoute, foreign),
		},
		"what is left from other ranges goes": {
			have: snapshotWith([]netlinkx.Addr{oldAddr, gatewayAddr}, stale, clusterRoute, serviceRoute),
			want: hostPlan{deleteAddrs: []netlinkx.Addr{oldAddr}, deleteRoutes: []netlinkx.Route{stale}},
		},
		"somebody's route of the same range is replaced by ours": {
			have: snapshotWith([]netlinkx.Addr{gatewayAddr}, clusterRoute, netlinkx.Route{Dst: serviceRoute.Dst, Link: wanIndex, Protocol: 4}),
			want: hostPlan{setRoutes: []netlinkx.Route{serviceRoute}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := planHost(DefaultConfig(), gateway, bridgeIndex, tc.have)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(hostPlan{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheckConflicts(t *testing.T) {
	wan := func(dst, via string, protocol int) netlinkx.Route {
		r := netlinkx.Route{Dst: netip.MustParsePrefix(dst), Link: wanIndex, Protocol: protocol}
		if via != "" {
			r.Via = netip.MustParseAddr(via)
		}
		return r
	}
	addr := func(p string) []netlinkx.Addr {
		return []netlinkx.Addr{{Link: wanIndex, Prefix: netip.MustParsePrefix(p)}}
	}
	for name, tc := range map[string]struct {
		have hostSnapshot
		want []string
	}{
		"a default route is no conflict":                          {have: snapshotWith(addr("192.0.2.2/24"), wan("0.0.0.0/0", "192.0.2.1", 3))},
		"a private range behind a gateway is no conflict":         {have: snapshotWith(nil, wan("10.0.0.0/8", "192.0.2.1", 4))},
		"our own routes are no conflict":                          {have: snapshotWith([]netlinkx.Addr{gatewayAddr}, clusterRoute, serviceRoute)},
		"a network of the machine inside the cluster range":       {have: snapshotWith(addr("10.244.3.1/24")), want: []string{"clusterCIDR 10.244.0.0/16 overlaps the address 10.244.3.1/24 of interface wan0"}},
		"a network of the machine that contains both":             {have: snapshotWith(addr("10.1.2.3/8")), want: []string{"clusterCIDR", "serviceCIDR"}},
		"somebody's route to a part of the service range":         {have: snapshotWith(nil, wan("10.254.128.0/17", "192.0.2.1", 4)), want: []string{`serviceCIDR 10.254.0.0/16 overlaps the route to 10.254.128.0/17 on interface "wan0"`}},
		"somebody's route to exactly the cluster range":           {have: snapshotWith(nil, wan("10.244.0.0/16", "192.0.2.1", 4)), want: []string{"clusterCIDR"}},
		"a link whose network contains the range without gateway": {have: snapshotWith(nil, wan("10.0.0.0/8", "", 2)), want: []string{"clusterCIDR", "serviceCIDR"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := checkConflicts(DefaultConfig(), tc.have)
			if (err == nil) != (len(tc.want) == 0) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestCheckPodCIDR(t *testing.T) {
	for cidr, want := range map[string]string{
		"10.244.0.0/24": "",
		"10.244.0.0/16": "",
		"10.244.9.0/30": "",
		"10.245.0.0/24": "is not inside clusterCIDR 10.244.0.0/16",
		"10.0.0.0/8":    "is not inside clusterCIDR",
		"10.244.0.5/24": "did you mean 10.244.0.0/24?",
		"10.244.0.0/31": "must be /30 or larger",
		"fd00:10::/64":  "must be an IPv4 range",
	} {
		err := checkPodCIDR(DefaultConfig(), netip.MustParsePrefix(cidr))
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", cidr, err, want)
		}
	}
	if err := checkPodCIDR(DefaultConfig(), netip.Prefix{}); err == nil || !strings.Contains(err.Error(), "spec.podCIDR: required") {
		t.Errorf("no range: got %v", err)
	}
}

func TestChooseMTU(t *testing.T) {
	out := netlinkx.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: wanIndex}
	configured := DefaultConfig()
	configured.MTU = 9000
	for name, tc := range map[string]struct {
		cfg  Config
		have hostSnapshot
		want int
	}{
		"what was configured":                       {configured, snapshotWith(nil, out), 9000},
		"else that of the way out":                  {DefaultConfig(), snapshotWith(nil, out), 1400},
		"else Ethernet's, when there is no way out": {DefaultConfig(), snapshotWith(nil), 1500},
	} {
		if got := chooseMTU(tc.cfg, tc.have); got != tc.want {
			t.Errorf("%s: got %d, want %d", name, got, tc.want)
		}
	}
}

func TestConfigValidateNamesEveryField(t *testing.T) {
	bad := Config{
		BridgeName:  "a-name-that-is-too-long",
		ClusterCIDR: netip.MustParsePrefix("10.0.0.0/8"), ServiceCIDR: netip.MustParsePrefix("10.254.0.0/16"),
		MTU: 100, StateDir: "relative",
	}
	err := bad.Validate()
	for _, field := range []string{"bridgeName", "overlaps serviceCIDR", "mtu 100", "stateDir", "netNSDir"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
	if err := (Config{}).Validate(); err == nil || !strings.Contains(err.Error(), "clusterCIDR: required") {
		t.Errorf("got %v", err)
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}
