package nodes

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var (
	network = netip.MustParsePrefix("198.19.0.0/24")
	options = Options{Dir: "/run/x/nodes", Network: network, CgroupRoot: "/keelson"}
	// both are those of nodes with addresses of both families.
	network6 = netip.MustParsePrefix("fd00:198:19::/64")
	both     = Options{Dir: options.Dir, Network: network, Network6: network6, CgroupRoot: options.CgroupRoot}
)

func node(name, address string, cut Cut) Node {
	return Node{Name: name, Address: netip.MustParseAddr(address), Boot: 1, Cut: cut}
}

func TestAddressesAreThoseOfMachines(t *testing.T) {
	tests := map[string]struct {
		network  string
		want     []string // first and last
		capacity int
	}{
		"a usual range":        {"198.19.0.0/24", []string{"198.19.0.2", "198.19.0.254"}, 253},
		"the smallest of all":  {"192.0.2.8/30", []string{"192.0.2.10", "192.0.2.10"}, 1},
		"one beyond a full /8": {"10.0.254.0/23", []string{"10.0.254.2", "10.0.255.254"}, 509},
		"one without any":      {"192.0.2.8/31", nil, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := netip.MustParsePrefix(tt.network)
			var all []netip.Addr
			for a := range Addresses(p) {
				all = append(all, a)
			}
			if got := Capacity(p); got != tt.capacity {
				t.Errorf("capacity %d, want %d", got, tt.capacity)
			}
			if len(all) != tt.capacity {
				t.Fatalf("%d addresses, want %d", len(all), tt.capacity)
			}
			if len(all) > 0 && (all[0].String() != tt.want[0] || all[len(all)-1].String() != tt.want[1]) {
				t.Errorf("%s to %s, want %v", all[0], all[len(all)-1], tt.want)
			}
		})
	}
}

func TestPortsAreNumberedWithinTheNetwork(t *testing.T) {
	o := Options{Network: netip.MustParsePrefix("172.30.0.0/16")}
	for address, want := range map[string]string{"172.30.0.2": "keelson-n2", "172.30.1.0": "keelson-n256", "172.30.255.254": "keelson-n65534"} {
		got := o.portName(netip.MustParseAddr(address))
		if got != want || len(got) >= unix.IFNAMSIZ {
			t.Errorf("the port of %s is %s, want %s", address, got, want)
		}
	}
}

func TestPlannedDrops(t *testing.T) {
	gateway, a, b, c := "198.19.0.1", "198.19.0.2", "198.19.0.3", "198.19.0.4"
	tests := map[string]struct {
		cut        Cut // of node b
		wantHere   []string
		wantInside map[string][]string
	}{
		"nothing is cut": {},
		"cut off from the control plane, both drop what the other sends": {
			cut:        Cut{From: ControlPlane},
			wantHere:   []string{"-i keelson-nodes -s " + b + " -d " + gateway + " -j DROP"},
			wantInside: map[string][]string{"b": {"-i eth0 -s " + gateway + " -j DROP"}},
		},
		"cut off from the control plane in what it has sent": {
			cut: Cut{From: ControlPlane, Only: Sent}, wantHere: []string{"-i keelson-nodes -s " + b + " -d " + gateway + " -j DROP"},
		},
		"cut off from nodes, each drops what the other sends": {
			cut: Cut{From: OtherNodes},
			wantInside: map[string][]string{
				"a": {"-i eth0 -s " + b + " -j DROP"}, "c": {"-i eth0 -s " + b + " -j DROP"},
				"b": {"-i eth0 -s " + a + " -j DROP", "-i eth0 -s " + c + " -j DROP"},
			},
		},
		"cut off from nodes in what it should have received": {
			cut:        Cut{From: OtherNodes, Only: Received},
			wantInside: map[string][]string{"b": {"-i eth0 -s " + a + " -j DROP", "-i eth0 -s " + c + " -j DROP"}},
		},
		"cut off from all in one direction": {
			cut:        Cut{From: Everybody, Only: Sent},
			wantHere:   []string{"-i keelson-nodes -s " + b + " -d " + gateway + " -j DROP"},
			wantInside: map[string][]string{"a": {"-i eth0 -s " + b + " -j DROP"}, "c": {"-i eth0 -s " + b + " -j DROP"}},
		},
		"cut off from all, it is unplugged and no rule is needed": {cut: Cut{From: Everybody}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			here, inside := options.plannedDrops(network, []Node{node("a", a, Cut{}), node("b", b, tt.cut), node("c", c, Cut{})})
			if diff := cmp.Diff(tt.wantHere, rules(here)); diff != "" {
				t.Errorf("rules of this machine (-want +got):\n%s", diff)
			}
			got := map[string][]string{}
			for name, drops := range inside {
				got[name] = rules(drops)
			}
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(tt.wantInside, got); diff != "" {
				t.Errorf("rules of nodes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCutsLoseIPv6AsWell(t *testing.T) {
	here, inside := both.plannedDrops(network6, []Node{node("a", "198.19.0.2", Cut{}), node("b", "198.19.0.3", Cut{From: Everybody, Only: Sent})})
	if diff := cmp.Diff([]string{"-i keelson-nodes -s fd00:198:19::3 -d fd00:198:19::1 -j DROP"}, rules(here)); diff != "" {
		t.Errorf("rules of this machine (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"-i eth0 -s fd00:198:19::3 -j DROP"}, rules(inside["a"])); diff != "" {
		t.Errorf("rules of the other node (-want +got):\n%s", diff)
	}
}

func TestASecondAddressIsAtTheSamePlace(t *testing.T) {
	tests := map[string]struct{ network, network6, address, want string }{
		"the first":             {"198.19.0.0/24", "fd00:198:19::/64", "198.19.0.1", "fd00:198:19::1"},
		"the last":              {"198.19.0.0/24", "fd00:198:19::/64", "198.19.0.254", "fd00:198:19::fe"},
		"beyond a byte":         {"172.30.0.0/16", "fd00::/112", "172.30.1.0", "fd00::100"},
		"a network inside a /8": {"10.0.254.0/23", "fd00::/64", "10.0.255.7", "fd00::107"},
		"a range of 16 bits":    {"172.30.0.0/16", "fd00::1:0:0/112", "172.30.255.254", "fd00::1:0:fffe"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := Second(netip.MustParsePrefix(tt.network), netip.MustParsePrefix(tt.network6), netip.MustParseAddr(tt.address))
			if got.String() != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestForwardingKeepsRoutesThatWereAnnounced(t *testing.T) {
	conf := t.TempDir()
	settings := map[string]string{"all/forwarding": "0\n", "eth0/accept_ra": "1\n", "eth1/accept_ra": "0\n", "eth2/accept_ra": "2\n"}
	write := func() {
		for name, value := range settings {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(conf, name)), 0o755), os.WriteFile(filepath.Join(conf, name), []byte(value), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	read := func() map[string]string {
		got := map[string]string{}
		for name := range settings {
			text, err := os.ReadFile(filepath.Join(conf, name))
			if err != nil {
				t.Fatal(err)
			}
			got[name] = strings.TrimSpace(string(text))
		}
		return got
	}
	write()
	if err := forwardIPv6(conf); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"all/forwarding": "1", "eth0/accept_ra": "2", "eth1/accept_ra": "0", "eth2/accept_ra": "2"}, read()); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	// A machine that forwards already is as its owner wants it.
	settings["all/forwarding"] = "1\n"
	write()
	if err := forwardIPv6(conf); err != nil || read()["eth0/accept_ra"] != "1" {
		t.Errorf("%v, settings %v, want them untouched", err, read())
	}
}

func TestANodeKnowsItsNames(t *testing.T) {
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n198.19.0.2\ta\nfd00:198:19::2\ta\n"
	if diff := cmp.Diff(want, New(both).hostsFile(node("a", "198.19.0.2", Cut{}))); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

func rules(drops []drop) []string {
	var out []string
	for _, d := range drops {
		out = append(out, d.rule())
	}
	return out
}

func TestCutsAreValidated(t *testing.T) {
	tests := map[string]struct {
		cut     Cut
		wantErr string
		wantSay string
	}{
		"from all":              {cut: Cut{From: Everybody}, wantSay: "cut off from all"},
		"one direction":         {cut: Cut{From: OtherNodes, Only: Received}, wantSay: "cut off from nodes (only what it has received)"},
		"from nobody":           {cut: Cut{}, wantErr: `--from: "" is none of`},
		"from a stranger":       {cut: Cut{From: "me"}, wantErr: `--from: "me" is none of control-plane, nodes, all`},
		"an unknown direction":  {cut: Cut{From: Everybody, Only: "left"}, wantErr: `--only: "left" is neither sent nor received`},
		"a direction of nobody": {cut: Cut{Only: Sent}, wantErr: "--from"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := tt.cut.Validate()
			if tt.wantErr == "" && (err != nil || tt.cut.String() != tt.wantSay) {
				t.Errorf("%q, %v, want %q", tt.cut, err, tt.wantSay)
			}
			if tt.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tt.wantErr)) {
				t.Errorf("error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

func TestChooseProcesses(t *testing.T) {
	all := []running{
		{pid: 1, parent: 0, namespaces: []string{"net:[1]", "mnt:[1]"}},
		{pid: 10, parent: 1, namespaces: []string{"net:[1]", "mnt:[1]"}},  // the supervisor
		{pid: 11, parent: 10, namespaces: []string{"net:[7]", "mnt:[7]"}}, // its agent in the node
		{pid: 12, parent: 1, namespaces: []string{"net:[9]", "mnt:[9]"}},  // a container, in a Pod's namespaces
		{pid: 13, parent: 12, namespaces: []string{"net:[9]", "mnt:[9]"}}, // left the cgroup, but not its parent
		{pid: 14, parent: 13, namespaces: nil},                            // not looked at in time
		{pid: 15, parent: 1, namespaces: []string{"net:[8]", "mnt:[1]"}},  // another node's
	}
	got := chooseProcesses(all, []string{"net:[7]", "mnt:[7]"}, map[int]bool{12: true})
	if diff := cmp.Diff([]int{11, 12, 13, 14}, got); diff != "" {
		t.Errorf("processes of the node (-want +got):\n%s", diff)
	}
	if got := chooseProcesses(all, nil, nil); got != nil {
		t.Errorf("without anything of the node: %v", got)
	}
}

func TestResolvConfLeavesOutWhatNodesCannotReach(t *testing.T) {
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"servers elsewhere are kept":                    {map[string]string{resolvConf: "search a\nnameserver 192.0.2.1\n"}, "search a\nnameserver 192.0.2.1\n"},
		"one on loopback is left out":                   {map[string]string{resolvConf: "nameserver 127.0.0.1\nnameserver 192.0.2.1\n"}, "nameserver 192.0.2.1\n"},
		"those behind systemd-resolved take its place":  {map[string]string{resolvConf: "nameserver 127.0.0.53\n", resolvedConf: "nameserver 192.0.2.9\n"}, "nameserver 192.0.2.9\n"},
		"nothing is left when there is nothing behind":  {map[string]string{resolvConf: "nameserver ::1\noptions edns0\n"}, "options edns0\n"},
		"a machine without a list has none":             {nil, ""},
		"servers behind are not asked without a reason": {map[string]string{resolvConf: "search a\n", resolvedConf: "nameserver 192.0.2.9\n"}, "search a\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := resolvConfFor(func(path string) ([]byte, error) {
				if text, ok := tt.files[path]; ok {
					return []byte(text), nil
				}
				return nil, &fs.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
			})
			if err != nil || got != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
	if _, err := resolvConfFor(func(string) ([]byte, error) { return nil, errors.New("broken disk") }); err == nil {
		t.Error("a list that cannot be read is no error")
	}
}

func TestPlanRoutes(t *testing.T) {
	plan := options.planRoutes(Routes{
		Pods:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00::/56")},
		Services: []netip.Prefix{netip.MustParsePrefix("10.254.0.0/16")},
		Nodes: map[netip.Prefix]netip.Addr{
			netip.MustParsePrefix("10.244.1.0/24"): netip.MustParseAddr("198.19.0.2"),
			// A Node that was joined from elsewhere is not on this network.
			netip.MustParsePrefix("10.244.2.0/24"): netip.MustParseAddr("192.0.2.7"),
		},
	}, 7)
	got := map[string]string{}
	for dst, r := range plan {
		got[dst.String()] = strings.TrimSpace(map[int]string{unix.RTN_UNREACHABLE: "unreachable", unix.RTN_UNICAST: "unicast"}[r.Type] + " " + r.Gw.String() + " " + r.Src.String())
	}
	want := map[string]string{
		"10.244.0.0/16": "unreachable <nil> <nil>",
		"10.254.0.0/16": "unicast <nil> 198.19.0.1",
		"10.244.1.0/24": "unicast 198.19.0.2 198.19.0.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestPlanRoutesOfBothFamilies(t *testing.T) {
	plan := both.planRoutes(Routes{
		Pods:     []netip.Prefix{netip.MustParsePrefix("fd00::/56")},
		Services: []netip.Prefix{netip.MustParsePrefix("fd00:1::/112")},
		Nodes: map[netip.Prefix]netip.Addr{
			netip.MustParsePrefix("fd00:0:0:1::/64"): netip.MustParseAddr("fd00:198:19::2"),
			netip.MustParsePrefix("fd00:0:0:2::/64"): netip.MustParseAddr("2001:db8::7"), // joined from elsewhere
		},
	}, 7)
	got := map[string]string{}
	for dst, r := range plan {
		got[dst.String()] = fmt.Sprint(r.Type, " ", r.Gw, " ", r.Src)
	}
	want := map[string]string{
		"fd00::/56":       "7 <nil> <nil>",
		"fd00:1::/112":    "1 <nil> fd00:198:19::1",
		"fd00:0:0:1::/64": "1 fd00:198:19::2 fd00:198:19::1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

func TestCovered(t *testing.T) {
	for path, want := range map[string]string{
		"/run": "/run", "/run/keelson": "/run", "/running": "", "/var/log/x": "/var/log", "/var/lib": "", "/var/lib/keelson/a": "/var/lib/keelson", "/tmp/a": "", "": "",
	} {
		if got := Covered(path); got != want {
			t.Errorf("%q is behind %q, want %q", path, got, want)
		}
	}
}
