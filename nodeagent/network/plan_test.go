package network

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
)

const (
	bridgeIndex = 7
	wanIndex    = 2
	vethIndex   = 9
)

var (
	gateway4     = netip.MustParseAddr("10.244.0.1")
	clusterRoute = netlinkx.Route{Dst: netip.MustParsePrefix("10.244.0.0/16"), Unreachable: true, Protocol: routeProtocol}
	serviceRoute = netlinkx.Route{Dst: netip.MustParsePrefix("10.254.0.0/16"), Link: bridgeIndex, Src: gateway4, Protocol: routeProtocol}
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
	podRoute := netlinkx.Route{Dst: netip.MustParsePrefix("10.244.0.2/32"), Link: vethIndex, Src: gateway4, Protocol: routeProtocol}
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
			got := planHost(DefaultConfig(), podRange, bridgeIndex, tc.have)
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

func TestCheckPodCIDRs(t *testing.T) {
	single, dual := DefaultConfig(), DefaultConfig()
	dual.ClusterCIDRs, dual.ServiceCIDRs = ranges.MustParse("10.244.0.0/16,fd00:10:244::/56"), ranges.MustParse("10.254.0.0/16,fd00:10:254::/112")
	for _, tc := range []struct {
		cfg         Config
		cidrs, want string
	}{
		{single, "10.244.0.0/24", ""},
		{single, "10.244.0.0/16", ""},
		{single, "10.244.9.0/30", ""},
		{single, "10.245.0.0/24", "is not inside clusterCIDR 10.244.0.0/16"},
		{single, "10.0.0.0/8", "is not inside clusterCIDR"},
		{single, "10.244.0.5/24", "did you mean 10.244.0.0/24?"},
		{single, "10.244.0.0/31", "must be /30 or larger"},
		{single, "10.244.0.0/24,fd00:10:244::/64", "is of a family that clusterCIDR 10.244.0.0/16 lacks"},
		{dual, "fd00:10:244::/64,10.244.0.0/24", ""},
		{dual, "10.244.0.0/24", ""},
		{dual, "fd00:10:244::/64", "nodes with IPv6 alone are not supported"},
		{dual, "10.244.0.0/24,fd00:10:245::/64", "is not inside clusterCIDR fd00:10:244::/56"},
		{dual, "10.244.0.0/24,fd00:10:244::/121", "the IPv6 range is smaller than the IPv4 range: must be /120 or larger"},
		{dual, "10.244.0.0/24,fd00:10:244::/127", "must be /126 or larger"},
	} {
		var own ranges.List
		for text := range strings.SplitSeq(tc.cidrs, ",") {
			own = append(own, netip.MustParsePrefix(text))
		}
		err := checkPodCIDRs(tc.cfg, own)
		if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %q", tc.cidrs, err, tc.want)
		}
	}
	if err := checkPodCIDRs(single, nil); err == nil || !strings.Contains(err.Error(), "spec.podCIDR: required") {
		t.Errorf("no range: got %v", err)
	}
}

func TestChooseMTU(t *testing.T) {
	out := netlinkx.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Link: wanIndex}
	nodeIP := []netlinkx.Addr{{Link: bridgeIndex, Prefix: netip.MustParsePrefix("192.0.2.2/24")}}
	with := func(mode overlay.Mode, mtu int, ips ...string) Config {
		c := DefaultConfig()
		c.Overlay, c.MTU = mode, mtu
		for _, ip := range ips {
			c.NodeIPs = append(c.NodeIPs, netip.MustParseAddr(ip))
		}
		return c
	}
	dual := with(overlay.VXLAN, 0)
	dual.ClusterCIDRs = ranges.MustParse("10.244.0.0/16,fd00::/56")
	narrow := snapshotWith(nil, out)
	narrow.links[0].MTU = 1300
	for name, tc := range map[string]struct {
		cfg     Config
		have    hostSnapshot
		want    int
		wantErr string
	}{
		"what was configured, if it fits":            {cfg: with(overlay.None, 1280), have: snapshotWith(nil, out), want: 1280},
		"what was configured and does not fit":       {cfg: with(overlay.None, 9000), have: snapshotWith(nil, out), wantErr: "mtu 9000 does not fit: interface wan0 takes 1400 bytes"},
		"what fits but for the overlay":              {cfg: with(overlay.VXLAN, 1400), have: snapshotWith(nil, out), wantErr: "the overlay (vxlan) adds 50: must be at most 1350"},
		"else that of the way out":                   {cfg: with(overlay.None, 0), have: snapshotWith(nil, out), want: 1400},
		"less what the overlay takes":                {cfg: with(overlay.VXLAN, 0), have: snapshotWith(nil, out), want: 1350},
		"which is nothing for plain routes":          {cfg: with(overlay.HostGW, 0), have: snapshotWith(nil, out), want: 1400},
		"the node's address counts before the route": {cfg: with(overlay.VXLAN, 0, "192.0.2.2"), have: snapshotWith(nodeIP, out), want: 1450},
		"else Ethernet's, when there is no way out":  {cfg: with(overlay.None, 0), have: snapshotWith(nil), want: 1500},
		"less than IPv6 needs":                       {cfg: dual, have: narrow, wantErr: "interface wan0 takes 1300 bytes, which leaves less than 1280 for Pods"},
	} {
		got, err := chooseMTU(tc.cfg, tc.have)
		if got != tc.want || (err == nil) != (tc.wantErr == "") || err != nil && !strings.Contains(err.Error(), tc.wantErr) {
			t.Errorf("%s: got %d, %v, want %d, %q", name, got, err, tc.want, tc.wantErr)
		}
	}
}

func TestConfigValidateNamesEveryField(t *testing.T) {
	bad := Config{
		BridgeName:   "a-name-that-is-too-long",
		ClusterCIDRs: ranges.MustParse("10.0.0.0/8"), ServiceCIDRs: ranges.MustParse("10.254.0.0/16"), Overlay: "lan",
		MTU: 100, StateDir: "relative",
	}
	err := bad.Validate()
	for _, field := range []string{"bridgeName", "overlaps clusterCIDR", `overlay "lan"`, "mtu 100", "stateDir", "netNSDir"} {
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
