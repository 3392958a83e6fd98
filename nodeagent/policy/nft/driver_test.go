package nft

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/keelson-dev/keelson/nodeagent/policy/model"
)

// cluster is a tracker with the lab's Pods, each labelled with its name, of namespace x.
func cluster(t *testing.T, specs ...string) *model.Tracker {
	t.Helper()
	tracker := model.NewTracker("node")
	tracker.SetNamespace("x", map[string]string{"kubernetes.io/metadata.name": "x"})
	for _, name := range []string{"a", "b", "c"} {
		tracker.SetPod(labPod(name))
	}
	for i, text := range specs {
		if err := tracker.SetPolicy(types.NamespacedName{Namespace: "x", Name: fmt.Sprint(i)}, parse(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	return tracker
}

func labPod(name string) model.Pod {
	return model.Pod{
		Name: types.NamespacedName{Namespace: "x", Name: name}, Node: "node", Labels: map[string]string{"pod": name},
		IPs:   []netip.Addr{netip.MustParseAddr(addresses[name][0]), netip.MustParseAddr(addresses[name][1])},
		Ports: []model.NamedPort{{Name: "web", Protocol: corev1.ProtocolTCP, Number: 80}},
	}
}

func parse(t *testing.T, text string) *networkingv1.NetworkPolicySpec {
	t.Helper()
	var spec networkingv1.NetworkPolicySpec
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "\t", "  ")), &spec); err != nil {
		t.Fatal(err)
	}
	return &spec
}

func apply(t *testing.T, d *Driver, tracker *model.Tracker) {
	t.Helper()
	if err := d.Apply(tracker.Tables()); err != nil {
		t.Fatal(err)
	}
	if ok, err := d.Verify(); err != nil || !ok {
		t.Fatalf("Verify after Apply = %v, %v", ok, err)
	}
}

// TestPackets sends over a node that enforces a few policies at a time.
func TestPackets(t *testing.T) {
	l := newLab(t)
	for _, name := range []string{"node", "a", "b", "c", "out"} {
		l.serve(name, "80")
		l.serve(name, "81")
	}
	d := l.driver()
	for _, tc := range []struct {
		name   string
		specs  []string
		allow  []string
		refuse []string
	}{
		{"no policy lets everything through", nil, []string{"a tcp b 80", "out udp a 80", "a tcp out 80", "a tcp node 80"}, nil},
		{"a Pod that is selected for nothing accepts nothing but from its node and from itself", []string{`{podSelector: {matchLabels: {pod: a}}}`},
			[]string{"node tcp a 80", "a tcp a 80", "a tcp b 80", "a udp out 80", "b tcp c 80"}, []string{"b tcp a 80", "c udp a 80", "out tcp a 80"}},
		{"a Pod is accepted by its label, also by UDP", []string{`{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`},
			[]string{"b tcp a 80", "b udp a 81"}, []string{"c tcp a 80", "out tcp a 80"}},
		{"a port is accepted by its number", []string{`{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}`},
			[]string{"b tcp a 80", "out tcp a 80"}, []string{"b tcp a 81", "b udp a 80"}},
		{"ports are accepted by their range", []string{`{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81, endPort: 90, protocol: UDP}]}]}`},
			[]string{"b udp a 81"}, []string{"b udp a 80", "b tcp a 81"}},
		{"a port is accepted by its name", []string{`{podSelector: {}, ingress: [{ports: [{port: web}]}]}`},
			[]string{"b tcp a 80", "out tcp c 80"}, []string{"b tcp a 81", "b udp a 80"}},
		{"a Pod that may send nothing reaches nothing, and answers", []string{`{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}`},
			[]string{"b tcp a 80", "out udp a 80", "node tcp a 80", "a tcp a 80"}, []string{"a tcp b 80", "a udp out 80", "a tcp node 80"}},
		{"a Pod may send to Pods by their label and port name", []string{`{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: web}]}]}`},
			[]string{"a tcp b 80"}, []string{"a tcp b 81", "a tcp c 80", "a tcp out 80"}},
		{"ranges are accepted, and not their exceptions", []string{`{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.1.3/32]}}, {ipBlock: {cidr: "::/0", except: ["fd00:10::3/128"]}}]}]}`},
			[]string{"c tcp a 80", "out tcp a 80"}, []string{"b tcp a 80"}},
		{"both sides must agree", []string{`{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}`, `{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: c}}}]}]}`},
			[]string{"c tcp a 80", "b tcp c 80"}, []string{"b tcp a 80"}},
		{"policies add up", []string{`{podSelector: {}, policyTypes: [Ingress]}`, `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`, `{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 81}]}]}`},
			[]string{"b tcp a 80", "c tcp a 81"}, []string{"c tcp a 80", "a tcp b 80"}},
		{"no policy any more", nil, []string{"a tcp b 80", "out udp a 80"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l.t = t
			apply(t, d, cluster(t, tc.specs...))
			for want, cases := range map[bool][]string{true: tc.allow, false: tc.refuse} {
				for _, c := range cases {
					f := strings.Fields(c)
					if got := l.reaches(f[0], f[1], f[2], f[3]); got != want {
						t.Errorf("%s: reaches = %v, want %v", c, got, want)
					}
				}
			}
		})
		l.t = t
	}
}

// TestOpenConnections cuts what loses its right, and lets it go on with it.
func TestOpenConnections(t *testing.T) {
	l := newLab(t)
	l.serve("a", "80")
	d := l.driver()
	tracker := cluster(t, `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`)
	apply(t, d, tracker)
	var conns []net.Conn
	for _, network := range []string{"tcp", "udp"} {
		conn, err := l.dial("b", network, net.JoinHostPort(addresses["a"][0], "80"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if !echoes(conn) {
			t.Fatalf("no answer by %s", network)
		}
		conns = append(conns, conn)
	}
	changed := labPod("b")
	changed.Labels = map[string]string{"pod": "other"}
	tracker.SetPod(changed)
	apply(t, d, tracker)
	for _, conn := range conns {
		if echoes(conn) {
			t.Errorf("%s is still open to a Pod that lost its label", conn.LocalAddr().Network())
		}
	}
	tracker.SetPod(labPod("b"))
	apply(t, d, tracker)
	if !l.reaches("b", "tcp", "a", "80") {
		t.Error("a Pod that has its label again does not get through")
	}
}

// TestRecovery replaces what another process left or somebody changed, and removes it.
func TestRecovery(t *testing.T) {
	l := newLab(t)
	l.serve("a", "80")
	d := l.driver()
	deny := cluster(t, `{podSelector: {}}`)
	apply(t, d, deny)

	next := l.driver() // another process
	if ok, err := next.Verify(); err != nil || ok {
		t.Fatalf("a new driver trusts a table that it has not written: %v, %v", ok, err)
	}
	apply(t, next, deny)
	if l.reaches("b", "tcp", "a", "80") {
		t.Error("not enforced after a restart")
	}

	c, err := next.connect()
	if err != nil {
		t.Fatal(err)
	}
	c.FlushTable(tableOf(model.IPv4))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	if ok, err := next.Verify(); err != nil || ok {
		t.Fatalf("a flushed table is not noticed: %v, %v", ok, err)
	}
	apply(t, next, deny)
	if l.reaches("b", "tcp", "a", "80") {
		t.Error("not enforced after a repair")
	}

	if err := l.driver().Apply([2]model.Table{}); err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("left over: %v, %v", tables, err)
	}
}

// TestChangesByHandAreNoticed changes what is in the tables and keeps how much there is.
func TestChangesByHandAreNoticed(t *testing.T) {
	l := newLab(t)
	d := l.driver()
	const policy = `{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}, {from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}`
	tracker := cluster(t, policy)
	c, err := d.connect()
	if err != nil {
		t.Fatal(err)
	}
	table := tableOf(model.IPv4)
	want := tracker.Tables()[model.IPv4]
	chain := &nftables.Chain{Table: table, Name: want.Ingress[netip.MustParseAddr(addresses["a"][0])]}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	var members, blocks string
	for name, s := range want.Sets {
		if s.Ranges != nil {
			blocks = name
		} else if len(s.Addresses) > 0 {
			members = name
		}
	}
	address := func(text string) []nftables.SetElement {
		return []nftables.SetElement{{Key: netip.MustParseAddr(text).AsSlice()}}
	}
	tests := map[string]struct {
		change func() error
		// harmless is a change of what is not ours.
		harmless bool
	}{
		"nothing": {change: func() error { return nil }, harmless: true},
		"another's table": {change: func() error {
			c.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyIPv4})
			return nil
		}, harmless: true},
		"rules exchanged for as many others": {change: func() error {
			c.FlushChain(chain)
			for range len(want.Chains[chain.Name]) + 1 {
				c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: accept})
			}
			return nil
		}},
		"a rule before the others": {change: func() error {
			c.InsertRule(&nftables.Rule{Table: table, Chain: chain, Exprs: accept})
			return nil
		}},
		"one address for another": {change: func() error {
			set := &nftables.Set{Table: table, Name: members, KeyType: nftables.TypeIPAddr}
			return errors.Join(c.SetDeleteElements(set, address(addresses["b"][0])), c.SetAddElements(set, address("203.0.113.9")))
		}},
		"one range for another": {change: func() error {
			set := &nftables.Set{Table: table, Name: blocks, KeyType: nftables.TypeIPAddr, Interval: true}
			c.FlushSet(set)
			return c.SetAddElements(set, intervals([]netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}))
		}},
		"a Pod that is let alone": {change: func() error {
			set := &nftables.Set{Table: table, Name: ingressMap, IsMap: true, KeyType: nftables.TypeIPAddr, DataType: nftables.TypeVerdict}
			pod := address(addresses["a"][0])
			allowed := []nftables.SetElement{{Key: pod[0].Key, VerdictData: &expr.Verdict{Kind: expr.VerdictAccept}}}
			return errors.Join(c.SetDeleteElements(set, []nftables.SetElement{verdict(netip.MustParseAddr(addresses["a"][0]), chain.Name)}), c.SetAddElements(set, allowed))
		}},
		"a table that is put to sleep": {change: func() error { return putToSleep(d.netns) }},
		"a chain that drops what no rule judges": {change: func() error {
			base := baseChains[ingressForward]
			c.AddChain(&nftables.Chain{
				Table: table, Name: ingressForward, Type: nftables.ChainTypeFilter, Hooknum: base.hook, Priority: &base.priority, Policy: new(nftables.ChainPolicyDrop),
			})
			return nil
		}},
		"a chain more": {change: func() error {
			c.AddChain(&nftables.Chain{Table: table, Name: "mine"})
			return nil
		}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			apply(t, d, tracker)
			for range 2 { // the second time nothing has changed since
				if ok, err := d.Verify(); err != nil || !ok {
					t.Fatalf("the tables are not found as they were written: %v, %v", ok, err)
				}
			}
			if err := errors.Join(tc.change(), c.Flush()); err != nil {
				t.Fatal(err)
			}
			if ok, err := d.Verify(); err != nil || ok != tc.harmless {
				t.Errorf("Verify is %v, %v, want %v", ok, err, tc.harmless)
			}
			apply(t, d, tracker)
			if ok, err := d.Verify(); err != nil || !ok {
				t.Errorf("not repaired: %v, %v", ok, err)
			}
		})
	}
}

// putToSleep makes the kernel skip the table of IPv4, as "nft add table ... { flags
// dormant; }" does; the library cannot.
func putToSleep(netns int) error {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(TableName + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(unix.NFT_TABLE_F_DORMANT)},
	})
	if err != nil {
		return err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: netns})
	if err != nil {
		return err
	}
	message := func(kind netlink.HeaderType, flags netlink.HeaderFlags, family byte, rest ...byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append([]byte{family, 0}, rest...)}
	}
	_, err = c.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge, unix.NFPROTO_IPV4, append([]byte{0, 0}, attributes...)...),
		message(unix.NFNL_MSG_BATCH_END, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES),
	})
	if err == nil {
		_, err = c.Receive() // of errors only
	}
	return errors.Join(err, c.Close())
}

// TestManyPeers puts thousands of addresses into one set, and changes one of them.
func TestManyPeers(t *testing.T) {
	l := newLab(t)
	d := l.driver()
	tracker := cluster(t, `{podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: web}]}]}`)
	pod := func(i int) model.Pod {
		return model.Pod{
			Name: types.NamespacedName{Namespace: "x", Name: fmt.Sprint(i)}, Node: "other",
			IPs:   []netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(2 + i>>8), byte(i)})},
			Ports: []model.NamedPort{{Name: "web", Protocol: corev1.ProtocolTCP, Number: 80}},
		}
	}
	for i := range 5000 {
		tracker.SetPod(pod(i))
	}
	apply(t, d, tracker)
	tracker.RemovePod(pod(7).Name)
	tracker.SetPod(pod(5001))
	apply(t, d, tracker)
}
