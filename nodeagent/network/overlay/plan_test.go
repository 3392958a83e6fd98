package overlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/network/netlinkx"
)

const tunnelIndex = 5

var (
	cluster = ranges.MustParse("10.244.0.0/16,fd00:10:244::/56")
	onLAN   = device{index: tunnelIndex, prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")}}
)

// node is one with the given addresses and ranges, each list written with commas.
func node(name, ips, cidrs string) Node {
	n := Node{Name: name}
	for text := range strings.SplitSeq(ips, ",") {
		if text != "" {
			n.IPs = append(n.IPs, netip.MustParseAddr(text))
		}
	}
	for text := range strings.SplitSeq(cidrs, ",") {
		if text != "" {
			n.Ranges = append(n.Ranges, netip.MustParsePrefix(text))
		}
	}
	return n
}

// lines describes entries in the order in which they are set.
func lines(list []entry) []string {
	var all []string
	for _, e := range list {
		switch e.rank() {
		case 0:
			all = append(all, fmt.Sprintf("%s at %s", e.forwarding.MAC, e.forwarding.To))
		case 1:
			all = append(all, fmt.Sprintf("%s is %s", e.neighbour.ip, e.neighbour.mac))
		default:
			all = append(all, fmt.Sprintf("%s via %s src %s", e.route.Dst, e.route.Via, e.route.Src))
		}
	}
	return all
}

func TestComputeEntries(t *testing.T) {
	self := node("a", "192.0.2.1", "10.244.1.0/24")
	self6 := node("a", "192.0.2.1,2001:db8::1", "10.244.1.0/24,fd00:10:244:1::/64")
	b := node("b", "192.0.2.2", "10.244.2.0/24")
	b6 := node("b", "2001:db8::2,192.0.2.2", "fd00:10:244:2::/64,10.244.2.0/24")
	toB := []string{"0a:4d:0a:f4:02:00 at 192.0.2.2", "10.244.2.1 is 0a:4d:0a:f4:02:00", "10.244.2.0/24 via 10.244.2.1 src 10.244.1.1"}
	tests := map[string]struct {
		mode     Mode
		self     Node
		nodes    []Node
		want     []string
		problems []string
	}{
		"nobody else":                       {VXLAN, self, []Node{self}, nil, nil},
		"one other":                         {VXLAN, self, []Node{b, self}, toB, nil},
		"one without a range yet":           {VXLAN, self, []Node{node("b", "192.0.2.2", "")}, nil, nil},
		"one without an address yet":        {VXLAN, self, []Node{node("b", "", "10.244.2.0/24")}, nil, nil},
		"one of two families, we of one":    {VXLAN, self, []Node{b6}, toB, nil},
		"one of one family, we of two":      {VXLAN, self6, []Node{b}, toB, nil},
		"both of two families":              {VXLAN, self6, []Node{b6}, []string{"0a:4d:0a:f4:02:00 at 192.0.2.2", "10.244.2.1 is 0a:4d:0a:f4:02:00", "fd00:10:244:2::1 is 0a:4d:0a:f4:02:00", "10.244.2.0/24 via 10.244.2.1 src 10.244.1.1", "fd00:10:244:2::/64 via fd00:10:244:2::1 src fd00:10:244:1::1"}, nil},
		"plain routes":                      {HostGW, self, []Node{b}, []string{"10.244.2.0/24 via 192.0.2.2 src 10.244.1.1"}, nil},
		"plain routes of both families":     {HostGW, self6, []Node{b6}, []string{"10.244.2.0/24 via 192.0.2.2 src 10.244.1.1", "fd00:10:244:2::/64 via 2001:db8::2 src fd00:10:244:1::1"}, nil},
		"plain routes to elsewhere":         {HostGW, self, []Node{node("b", "198.51.100.2", "10.244.2.0/24")}, nil, []string{"b: its address 198.51.100.2 is not on this node's link"}},
		"plain IPv6 without an address":     {HostGW, self6, []Node{node("b", "192.0.2.2", "10.244.2.0/24,fd00:10:244:2::/64")}, []string{"10.244.2.0/24 via 192.0.2.2 src 10.244.1.1"}, []string{"b: it has no address that leads to its Pod range fd00:10:244:2::/64"}},
		"our own range":                     {VXLAN, self, []Node{node("b", "192.0.2.2", "10.244.1.0/24")}, nil, []string{"b: its Pod range 10.244.1.0/24 overlaps one of node a"}},
		"a part of our range":               {VXLAN, self, []Node{node("b", "192.0.2.2", "10.244.1.128/25")}, nil, []string{"overlaps one of node a"}},
		"a range around ours":               {VXLAN, self, []Node{node("b", "192.0.2.2", "10.244.0.0/23")}, nil, []string{"overlaps one of node a"}},
		"two with one range":                {VXLAN, self, []Node{node("c", "192.0.2.3", "10.244.2.0/24"), b}, toB, []string{"c: its Pod range 10.244.2.0/24 overlaps one of node b"}},
		"a range outside of the cluster":    {VXLAN, self, []Node{node("b", "192.0.2.2", "10.9.2.0/24")}, nil, []string{"b: its Pod range 10.9.2.0/24 is no part of the cluster's"}},
		"a range larger than the cluster":   {VXLAN, self, []Node{node("b", "192.0.2.2", "0.0.0.0/0")}, nil, []string{"b: its Pod range 0.0.0.0/0 is no part"}},
		"our own address":                   {VXLAN, self, []Node{node("b", "192.0.2.1", "10.244.2.0/24")}, nil, []string{"b: its address 192.0.2.1 is this node's"}},
		"an address of a Pod":               {VXLAN, self, []Node{node("b", "10.244.7.7", "10.244.2.0/24")}, nil, []string{"b: its address 10.244.7.7 is inside of the Pods' range"}},
		"IPv6 alone":                        {VXLAN, self6, []Node{node("b", "2001:db8::2", "fd00:10:244:2::/64")}, nil, []string{"b: it has no IPv4 address"}},
		"an IPv6 range alone":               {VXLAN, self6, []Node{node("b", "192.0.2.2", "fd00:10:244:2::/64")}, nil, []string{"b: it has no IPv4 Pod range"}},
		"a bad one costs the others little": {VXLAN, self, []Node{node("c", "192.0.2.3", "10.9.0.0/24"), b}, toB, []string{"c: "}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			want, problems := computeEntries(Config{Mode: tc.mode, Port: DefaultPort, Cluster: cluster}, tc.self, onLAN, tc.nodes)
			set, gone := diff(nil, want)
			if diff := cmp.Diff(tc.want, lines(set)); diff != "" || len(gone) > 0 {
				t.Errorf("entries (-want +got):\n%s, gone %v", diff, gone)
			}
			if len(problems) != len(tc.problems) {
				t.Fatalf("problems %v, want %q", problems, tc.problems)
			}
			for i, p := range problems {
				if !strings.Contains(p.Node+": "+p.Message, tc.problems[i]) {
					t.Errorf("problem %v, want %q", p, tc.problems[i])
				}
			}
		})
	}
}

func TestDiff(t *testing.T) {
	cfg := Config{Mode: VXLAN, Port: DefaultPort, Cluster: cluster}
	self := node("a", "192.0.2.1", "10.244.1.0/24")
	with := func(nodes ...Node) entries {
		e, _ := computeEntries(cfg, self, onLAN, nodes)
		return e
	}
	b, c := node("b", "192.0.2.2", "10.244.2.0/24"), node("c", "192.0.2.3", "10.244.3.0/24")
	moved := node("b", "192.0.2.22", "10.244.2.0/24")
	renumbered := node("b", "192.0.2.2", "10.244.7.0/24")
	plain, _ := computeEntries(Config{Mode: HostGW, Cluster: cluster}, self, device{index: 2, prefixes: onLAN.prefixes}, []Node{b})
	tests := map[string]struct {
		have, want entries
		set, gone  []string
	}{
		"nothing changed": {with(b, c), with(c, b), nil, nil},
		"one came":        {with(b), with(b, c), []string{"0a:4d:0a:f4:03:00 at 192.0.2.3", "10.244.3.1 is 0a:4d:0a:f4:03:00", "10.244.3.0/24 via 10.244.3.1 src 10.244.1.1"}, nil},
		"one went, its route first": {with(b, c), with(b), nil,
			[]string{"10.244.3.0/24 via 10.244.3.1 src 10.244.1.1", "10.244.3.1 is 0a:4d:0a:f4:03:00", "0a:4d:0a:f4:03:00 at 192.0.2.3"}},
		"one has another address: nothing is taken away": {with(b), with(moved), []string{"0a:4d:0a:f4:02:00 at 192.0.2.22"}, nil},
		"one has another range": {with(b), with(renumbered),
			[]string{"0a:4d:0a:f4:07:00 at 192.0.2.2", "10.244.7.1 is 0a:4d:0a:f4:07:00", "10.244.7.0/24 via 10.244.7.1 src 10.244.1.1"},
			[]string{"10.244.2.0/24 via 10.244.2.1 src 10.244.1.1", "10.244.2.1 is 0a:4d:0a:f4:02:00", "0a:4d:0a:f4:02:00 at 192.0.2.2"}},
		"a route on another link goes before": {plain, with(b),
			[]string{"0a:4d:0a:f4:02:00 at 192.0.2.2", "10.244.2.1 is 0a:4d:0a:f4:02:00", "10.244.2.0/24 via 10.244.2.1 src 10.244.1.1"},
			[]string{"10.244.2.0/24 via 192.0.2.2 src 10.244.1.1"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			set, gone := diff(tc.have, tc.want)
			if d := cmp.Diff(tc.set, lines(set)); d != "" {
				t.Errorf("set (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.gone, lines(gone)); d != "" {
				t.Errorf("gone (-want +got):\n%s", d)
			}
		})
	}
}

// Whatever nodes there are, no two have a way to one address, none leads into our own
// range, every neighbour on the way is known, and who has no problem is reached.
func TestWaysNeverContradictEachOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		self := node("n00", "192.0.2.1", "10.244.1.0/24")
		var nodes []Node
		for i := range rapid.IntRange(0, 12).Draw(t, "nodes") {
			third := rapid.IntRange(0, 6).Draw(t, "third")
			bits := rapid.IntRange(22, 26).Draw(t, "bits")
			cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(third), byte(rapid.IntRange(0, 3).Draw(t, "fourth") << 6)}), bits).Masked()
			ip := fmt.Sprintf("192.0.2.%d", rapid.IntRange(1, 6).Draw(t, "ip"))
			nodes = append(nodes, node(fmt.Sprintf("n%02d", i+1), ip, cidr.String()))
		}
		mode := rapid.SampledFrom([]Mode{VXLAN, HostGW}).Draw(t, "mode")
		want, problems := computeEntries(Config{Mode: mode, Cluster: cluster}, self, onLAN, nodes)
		again, _ := computeEntries(Config{Mode: mode, Cluster: cluster}, self, onLAN, slices.Clone(nodes))
		if set, gone := diff(want, again); len(set)+len(gone) > 0 {
			t.Fatalf("the same nodes lead to other entries: %v, %v", lines(set), lines(gone))
		}
		taken := []netip.Prefix{self.Ranges.V4()}
		for e := range want {
			if e.rank() != 2 {
				continue
			}
			if slices.ContainsFunc(taken, e.route.Dst.Overlaps) {
				t.Fatalf("%s overlaps one of %v", e.route.Dst, taken)
			}
			taken = append(taken, e.route.Dst)
			mac := hardwareAddress(e.route.Dst)
			if mode == VXLAN && !want[entry{neighbour: neighbour{tunnelIndex, e.route.Via, mac}}] {
				t.Fatalf("%s leads to %s, whom nobody knows", e.route.Dst, e.route.Via)
			}
		}
		bad := map[string]bool{}
		for _, p := range problems {
			bad[p.Node] = true
		}
		for _, n := range nodes {
			reached := slices.Contains(taken, n.Ranges.V4())
			if !bad[n.Name] && !reached {
				t.Fatalf("node %s has no problem and no way: %v", n.Name, n)
			}
		}
	})
}

func TestFindDevice(t *testing.T) {
	addrs := []netlinkx.Addr{
		{Link: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")},
		{Link: 3, Prefix: netip.MustParsePrefix("192.0.2.1/24")},
		{Link: 3, Prefix: netip.MustParsePrefix("2001:db8::1/64")},
	}
	got, err := findDevice(node("a", "192.0.2.1", ""), addrs)
	if err != nil || got.index != 3 || !slices.Equal(got.prefixes, onLAN.prefixes) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := findDevice(node("a", "192.0.2.9", ""), addrs); err == nil || !strings.Contains(err.Error(), "no interface has the node's address 192.0.2.9") {
		t.Errorf("an address of nobody: %v", err)
	}
}

func BenchmarkOneChangeOf5000Nodes(b *testing.B) {
	all := ranges.MustParse("10.0.0.0/8")
	self := node("self", "172.16.0.1", "10.0.0.0/24")
	var nodes []Node
	for i := range 5000 {
		nodes = append(nodes, Node{
			Name: fmt.Sprintf("node-%d", i), IPs: []netip.Addr{netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})},
			Ranges: ranges.List{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte((i + 1) >> 8), byte(i + 1), 0}), 24)},
		})
	}
	cfg := Config{Mode: VXLAN, Cluster: all}
	have, _ := computeEntries(cfg, self, onLAN, nodes)
	for b.Loop() {
		want, _ := computeEntries(cfg, self, onLAN, nodes[:4999])
		if _, gone := diff(have, want); len(gone) != 3 {
			b.Fatal(len(gone))
		}
	}
}
