package nft

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

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
