package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// grid are namespaces x, y and z with Pods a, b and c each, as upstream's tests have
// them; all are of one node.
func grid() *Tracker {
	t := NewTracker("node")
	for i, ns := range []string{"x", "y", "z"} {
		t.SetNamespace(ns, map[string]string{"ns": ns})
		for j, name := range []string{"a", "b", "c"} {
			t.SetPod(gridPod(ns, name, 10*i+j+1))
		}
	}
	return t
}

func gridPod(ns, name string, number int) Pod {
	return Pod{
		Name: types.NamespacedName{Namespace: ns, Name: name}, Node: "node", Labels: map[string]string{"pod": name},
		IPs:   []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(number)}), netip.MustParseAddr(fmt.Sprintf("fd00::%d", number))},
		Ports: []NamedPort{{"web", corev1.ProtocolTCP, uint16(80 + number)}, {"dns", corev1.ProtocolUDP, 53}},
	}
}

func (t *Tracker) set(tb testing.TB, texts ...string) {
	tb.Helper()
	for i, text := range texts {
		namespace, text, _ := strings.Cut(text, " ")
		var spec networkingv1.NetworkPolicySpec
		if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
			tb.Fatal(err)
		}
		if err := t.SetPolicy(types.NamespacedName{Namespace: namespace, Name: fmt.Sprint(i)}, &spec); err != nil {
			tb.Fatal(err)
		}
	}
}

func (t *Tracker) ip(pod string) netip.Addr {
	ns, name, _ := strings.Cut(pod, "/")
	return t.pods[types.NamespacedName{Namespace: ns, Name: name}].IPs[0]
}

// allows decides as the kernel does.
func (t Table) allows(from, to netip.Addr, protocol corev1.Protocol, port uint16) bool {
	if from == to {
		return true
	}
	judge := func(chain string, isolated bool, peer netip.Addr) bool {
		return !isolated || slices.ContainsFunc(t.Chains[chain], func(r Rule) bool {
			return (r.Peers == "" || t.Sets[r.Peers].holds(peer)) && (r.Protocol == "" || r.Protocol == protocol) &&
				(r.First == 0 || r.First <= port && port <= r.Last) && (r.Targets == "" || t.Sets[r.Targets].Endpoints[netip.AddrPortFrom(to, port)])
		})
	}
	out, sends := t.Egress[from]
	in, accepts := t.Ingress[to]
	return judge(out, sends, to) && judge(in, accepts, from)
}

func (s Set) holds(a netip.Addr) bool {
	return s.Addresses[a] || slices.ContainsFunc(s.Ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// TestPolicies has the cases of upstream's suite netpol.
func TestPolicies(t *testing.T) {
	for name, tc := range map[string]struct {
		policies []string
		allow    []string // from to protocol port
		refuse   []string
	}{
		"nothing is refused without a policy":                {nil, []string{"x/a y/b TCP 1"}, nil},
		"a policy selects Pods of its own namespace":         {[]string{`x {podSelector: {}}`}, []string{"x/a y/a TCP 80"}, []string{"y/a x/a TCP 80", "x/b x/a UDP 80"}},
		"deny all egress":                                    {[]string{`x {podSelector: {}, policyTypes: [Egress]}`}, []string{"y/a x/a TCP 80"}, []string{"x/a y/a TCP 80", "x/a x/b TCP 80"}},
		"types default to both when there is egress":         {[]string{`x {podSelector: {}, egress: [{}]}`}, []string{"x/a y/a TCP 80"}, []string{"y/a x/a TCP 80"}},
		"an empty rule allows all":                           {[]string{`x {podSelector: {}, ingress: [{}]}`}, []string{"y/a x/a TCP 80", "y/a x/a SCTP 7"}, nil},
		"Pods by label, in the policy's namespace":           {[]string{`x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`}, []string{"x/b x/a TCP 80", "y/c x/b TCP 80"}, []string{"x/c x/a TCP 80", "y/b x/a TCP 80"}},
		"Pods by expression":                                 {[]string{`x {podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}}`}, []string{"x/a x/c TCP 80"}, []string{"x/c x/a TCP 80", "x/c x/b TCP 80"}},
		"namespaces by label":                                {[]string{`x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`}, []string{"y/c x/a TCP 80"}, []string{"x/b x/a TCP 80", "z/c x/a TCP 80"}},
		"namespaces by exclusion":                            {[]string{`x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]}]}`}, []string{"y/c x/a TCP 80", "z/c x/a TCP 80"}, []string{"x/b x/a TCP 80"}},
		"both selectors of one peer must match":              {[]string{`x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: a}}}]}]}`}, []string{"y/a x/a TCP 80"}, []string{"y/b x/a TCP 80", "x/a x/b TCP 80"}},
		"one of two peers must match":                        {[]string{`x {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}, {podSelector: {matchLabels: {pod: a}}}]}]}`}, []string{"y/b x/a TCP 80", "x/a x/b TCP 80"}, []string{"z/a x/b TCP 80"}},
		"an empty selector of namespaces is every namespace": {[]string{`x {podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}`}, []string{"z/b x/a TCP 80"}, nil},
		"ports of every protocol":                            {[]string{`x {podSelector: {}, ingress: [{ports: [{port: 80}, {port: 81, protocol: UDP}, {port: 82, protocol: SCTP}]}]}`}, []string{"y/a x/a TCP 80", "y/a x/a UDP 81", "y/a x/a SCTP 82"}, []string{"y/a x/a TCP 81", "y/a x/a UDP 80", "y/a x/a TCP 82"}},
		"a protocol without a number":                        {[]string{`x {podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`}, []string{"y/a x/a UDP 9"}, []string{"y/a x/a TCP 9"}},
		"a range of ports":                                   {[]string{`x {podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}]}]}`}, []string{"y/a x/a TCP 80", "y/a x/a TCP 90"}, []string{"y/a x/a TCP 79", "y/a x/a TCP 91"}},
		"a named port is each Pod's own":                     {[]string{`x {podSelector: {}, ingress: [{ports: [{port: web}]}]}`}, []string{"y/a x/a TCP 81", "y/a x/b TCP 82"}, []string{"y/a x/a TCP 82", "y/a x/a UDP 81"}},
		"a named port of egress is the server's":             {[]string{`x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: web}]}]}`}, []string{"x/a y/a TCP 91", "x/a y/b TCP 92"}, []string{"x/a y/a TCP 92", "x/a z/a TCP 101"}},
		"a range without an exception":                       {[]string{`x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.8/29]}}]}]}`}, []string{"x/a z/a TCP 80"}, []string{"x/a y/a TCP 80"}},
		"an exception that another peer includes":            {[]string{`x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.8/29]}}, {ipBlock: {cidr: 10.0.0.11/32}}]}]}`}, []string{"x/a y/a TCP 80"}, []string{"x/a y/b TCP 80"}},
		"policies add up":                                    {[]string{`x {podSelector: {}}`, `x {podSelector: {}, ingress: [{ports: [{port: 80}]}]}`, `x {podSelector: {}, ingress: [{ports: [{port: 81}]}]}`}, []string{"y/a x/a TCP 80", "y/a x/a TCP 81"}, []string{"y/a x/a TCP 82"}},
		"both ends must agree":                               {[]string{`x {podSelector: {}, ingress: [{}]}`, `y {podSelector: {}, policyTypes: [Egress]}`}, []string{"z/a x/a TCP 80"}, []string{"y/a x/a TCP 80"}},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := grid()
			tracker.set(t, tc.policies...)
			table := tracker.Tables()[IPv4]
			for want, cases := range map[bool][]string{true: tc.allow, false: tc.refuse} {
				for _, c := range cases {
					var from, to, protocol string
					var port uint16
					if _, err := fmt.Sscan(c, &from, &to, &protocol, &port); err != nil {
						t.Fatal(err)
					}
					if got := table.allows(tracker.ip(from), tracker.ip(to), corev1.Protocol(protocol), port); got != want {
						t.Errorf("%s: allowed = %v, want %v", c, got, want)
					}
				}
			}
		})
	}
}

// TestChanges makes the same tables whichever way the state was reached.
func TestChanges(t *testing.T) {
	policies := []string{
		`x {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: web}]}]}`,
		`x {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {pod: b}}}]}]}`,
	}
	want := grid()
	want.set(t, policies...)

	for name, reach := range map[string]func(tracker *Tracker){
		"a Pod that changed its labels and back": func(tracker *Tracker) {
			tracker.set(t, policies...)
			pod := gridPod("x", "a", 1)
			pod.Labels = map[string]string{"pod": "b"}
			tracker.SetPod(pod)
			tracker.SetPod(gridPod("x", "a", 1))
		},
		"a Pod that went and came": func(tracker *Tracker) {
			tracker.set(t, policies...)
			tracker.RemovePod(types.NamespacedName{Namespace: "y", Name: "b"})
			tracker.SetPod(gridPod("y", "b", 12))
		},
		"a namespace that changed": func(tracker *Tracker) {
			tracker.set(t, policies...)
			tracker.SetNamespace("y", nil)
			tracker.SetNamespace("z", map[string]string{"ns": "y"})
			tracker.SetNamespace("y", map[string]string{"ns": "y"})
			tracker.SetNamespace("z", map[string]string{"ns": "z"})
		},
		"policies that were others": func(tracker *Tracker) {
			tracker.set(t, `x {podSelector: {}}`, `x {podSelector: {}, ingress: [{}]}`, `x {podSelector: {}}`)
			tracker.RemovePolicy(types.NamespacedName{Namespace: "x", Name: "2"})
			tracker.set(t, policies...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := grid()
			reach(tracker)
			if diff := cmp.Diff(want.Tables(), tracker.Tables(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("tables (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodsOfOtherNodesAreNotJudged(t *testing.T) {
	tracker := grid()
	pod := gridPod("x", "a", 1)
	pod.Node = "other"
	tracker.SetPod(pod)
	tracker.set(t, `x {podSelector: {}}`)
	for family, table := range tracker.Tables() {
		if len(table.Ingress) != 2 {
			t.Errorf("family %d judges %v", family, table.Ingress)
		}
	}
}

func TestSubtract(t *testing.T) {
	for name, tc := range map[string]struct {
		cidr   string
		except []string
		want   string
	}{
		"nothing":                  {"10.0.0.0/8", nil, "[10.0.0.0/8]"},
		"an end":                   {"10.0.0.0/30", []string{"10.0.0.3/32"}, "[10.0.0.0/31 10.0.0.2/32]"},
		"all":                      {"10.0.0.0/30", []string{"10.0.0.0/30"}, "[]"},
		"something outside":        {"10.0.0.0/30", []string{"192.0.2.0/24"}, "[10.0.0.0/30]"},
		"two, one inside of other": {"10.0.0.0/29", []string{"10.0.0.4/30", "10.0.0.4/31"}, "[10.0.0.0/30]"},
		"bits beyond the mask":     {"10.0.0.9/30", nil, "[10.0.0.8/30]"},
		"of IPv6":                  {"::/0", []string{"8000::/1"}, "[::/1]"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := subtract(tc.cidr, tc.except)
			if err != nil || fmt.Sprint(got) != tc.want {
				t.Errorf("subtract = %v, %v, want %s", got, err, tc.want)
			}
		})
	}
}
