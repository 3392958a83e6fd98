package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/ranges"
)

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func TestPlanRange(t *testing.T) {
	tests := map[string]struct {
		cluster string
		mask    int
		used    []netip.Prefix
		want    string // empty: none
	}{
		"the first":                            {"10.244.0.0/16", 24, nil, "10.244.0.0/24"},
		"the first hole":                       {"10.244.0.0/16", 24, prefixes("10.244.0.0/24", "10.244.2.0/24"), "10.244.1.0/24"},
		"a larger range in the way":            {"10.244.0.0/16", 24, prefixes("10.244.0.0/22"), "10.244.4.0/24"},
		"a smaller range in the way":           {"10.244.0.0/16", 24, prefixes("10.244.0.128/25"), "10.244.1.0/24"},
		"ranges elsewhere":                     {"10.244.0.0/16", 24, prefixes("10.9.0.0/24", "fd00::/64"), "10.244.0.0/24"},
		"the last":                             {"10.0.0.0/23", 24, prefixes("10.0.0.0/24"), "10.0.1.0/24"},
		"none left":                            {"10.0.0.0/23", 24, prefixes("10.0.0.0/24", "10.0.1.0/24"), ""},
		"one node has it all":                  {"10.0.0.0/24", 24, nil, "10.0.0.0/24"},
		"somebody holds more than there is":    {"10.0.0.0/24", 26, prefixes("10.0.0.0/8"), ""},
		"at the very end of the address space": {"255.255.254.0/23", 24, prefixes("255.255.254.0/24"), "255.255.255.0/24"},
		"a mask shorter than the range":        {"10.0.0.0/24", 23, nil, ""},
		"the first of IPv6":                    {"fd00:10:244::/56", 64, nil, "fd00:10:244::/64"},
		"the first hole of IPv6":               {"fd00:10:244::/56", 64, prefixes("fd00:10:244::/64", "10.244.0.0/24", "fd00:10:244:2::/64"), "fd00:10:244:1::/64"},
		"the last of IPv6":                     {"fd00::/63", 64, prefixes("fd00::/64"), "fd00:0:0:1::/64"},
		"none left of IPv6":                    {"fd00::/63", 64, prefixes("fd00::/63"), ""},
		"small ranges of IPv6":                 {"fd00::/108", 120, prefixes("fd00::/119", "fd00::205/128"), "fd00::300/120"},
		"ranges across the middle of IPv6":     {"fd00::/56", 68, prefixes("fd00::/64"), "fd00:0:0:1::/68"},
		"too many":                             {"fd00::/16", 64, nil, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := planRange(netip.MustParsePrefix(tc.cluster), tc.mask, tc.used)
			if (err != nil) != (tc.want == "") || err == nil && got.String() != tc.want {
				t.Errorf("got %s, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// Nodes come and go; no two ever overlap, and none goes without while there is room.
func TestRangesNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(8, 28).Draw(t, "bits")
		cluster := netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), bits)
		if rapid.Bool().Draw(t, "IPv6") {
			bits = rapid.IntRange(8, 122).Draw(t, "bits6")
			cluster = netip.PrefixFrom(netip.MustParseAddr("fd00::"), bits).Masked()
		}
		mask := rapid.IntRange(bits, min(bits+4, cluster.Addr().BitLen()-2)).Draw(t, "mask")
		room := 1 << (mask - bits)
		used := prefixes()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(used) > 0 && rapid.Bool().Draw(t, "leave") {
				at := rapid.IntRange(0, len(used)-1).Draw(t, "who")
				used = append(used[:at:at], used[at+1:]...)
				continue
			}
			got, err := planRange(cluster, mask, used)
			if (err == nil) != (len(used) < room) {
				t.Fatalf("%d of %d in use, error %v", len(used), room, err)
			}
			if err != nil {
				continue
			}
			if got.Bits() != mask || !cluster.Contains(got.Addr()) {
				t.Fatalf("%s is not a /%d of %s", got, mask, cluster)
			}
			for _, other := range used {
				if other.Overlaps(got) {
					t.Fatalf("%s overlaps %s", got, other)
				}
			}
			used = append(used, got)
		}
	})
}

func TestPlanRanges(t *testing.T) {
	cluster := ranges.MustParse("fd00:10:244::/62,10.244.0.0/22")
	got, err := planRanges(cluster, 24, 64, prefixes("10.244.0.0/24"))
	if err != nil || ranges.List(got).String() != "fd00:10:244::/64,10.244.1.0/24" {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = planRanges(cluster, 24, 64, prefixes("10.244.0.0/22"))
	if err == nil || !strings.Contains(err.Error(), "10.244.0.0/22") || got != nil {
		t.Errorf("one family without room: got %v, %v", got, err)
	}
}

func TestJudgeRanges(t *testing.T) {
	cluster := ranges.MustParse("10.244.0.0/16,fd00::/56")
	node := func(name string, cidrs ...string) keelsonv1.Node {
		n := keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Spec.PodCIDR, n.Spec.PodCIDRs = cidrs[0], cidrs
		return n
	}
	others := []keelsonv1.Node{node("a", "10.244.0.0/24", "fd00::/64"), node("b", "10.244.1.0/24")}
	tests := map[string]struct {
		node keelsonv1.Node
		want string
	}{
		"its own, listed with the others":   {others[0], ""},
		"one family of two":                 {node("c", "10.244.2.0/24"), ""},
		"outside":                           {node("c", "10.245.2.0/24"), "10.245.2.0/24 is outside of --cluster-cidr"},
		"larger than the cluster":           {node("c", "10.0.0.0/8"), "10.0.0.0/8 is outside"},
		"another's":                         {node("c", "10.244.1.0/24"), "10.244.1.0/24 overlaps a range of node b"},
		"a part of another's second family": {node("c", "10.244.3.0/24", "fd00::/80"), "fd00::/80 overlaps a range of node a"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := judgeRanges(cluster, &tc.node, others)
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestHearing(t *testing.T) {
	start := time.Unix(1000, 0)
	lease := func(second int64) *coordinationv1.Lease {
		at := metav1.NewMicroTime(time.Unix(second, 0))
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &at}}
	}
	node := func(uid types.UID, status corev1.ConditionStatus, posted int64) *keelsonv1.Node {
		n := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{UID: uid}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, LastHeartbeatTime: metav1.NewTime(time.Unix(posted, 0))}}
		return n
	}
	tests := map[string]struct {
		node  *keelsonv1.Node
		lease *coordinationv1.Lease
		want  bool
	}{
		"nothing new":                       {node("a", corev1.ConditionTrue, 5), lease(5), false},
		"a renewed lease":                   {node("a", corev1.ConditionTrue, 5), lease(6), true},
		"a lease renewed by a slower clock": {node("a", corev1.ConditionTrue, 5), lease(4), true},
		"a new status":                      {node("a", corev1.ConditionTrue, 6), lease(5), true},
		"our own verdict is no sign":        {node("a", corev1.ConditionUnknown, 6), lease(5), false},
		"another node of the name":          {node("b", corev1.ConditionTrue, 5), lease(5), true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			first := heartbeat{}.hear(node("a", corev1.ConditionTrue, 5), lease(5), start)
			second := first.hear(tc.node, tc.lease, start.Add(time.Minute))
			if heard := second.at != first.at; heard != tc.want {
				t.Errorf("heard %t, want %t", heard, tc.want)
			}
		})
	}
}

func TestComputeTaints(t *testing.T) {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status}
	}
	ready := condition(corev1.NodeReady, corev1.ConditionTrue)
	no := corev1.TaintEffectNoSchedule
	tests := map[string]struct {
		conditions []corev1.NodeCondition
		cordoned   bool
		present    []corev1.Taint
		want       []string
	}{
		"ready":                    {conditions: []corev1.NodeCondition{ready}},
		"nothing said yet":         {want: []string{"node.kubernetes.io/not-ready:NoSchedule"}},
		"not ready":                {conditions: []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionFalse)}, want: []string{"node.kubernetes.io/not-ready:NoSchedule"}},
		"unreachable":              {conditions: []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionUnknown)}, want: []string{"node.kubernetes.io/unreachable:NoSchedule"}},
		"cordoned":                 {conditions: []corev1.NodeCondition{ready}, cordoned: true, want: []string{"node.kubernetes.io/unschedulable:NoSchedule"}},
		"short of memory and disk": {conditions: []corev1.NodeCondition{ready, condition(corev1.NodeDiskPressure, corev1.ConditionTrue), condition(corev1.NodeMemoryPressure, corev1.ConditionTrue)}, want: []string{"node.kubernetes.io/memory-pressure:NoSchedule", "node.kubernetes.io/disk-pressure:NoSchedule"}},
		"ready again":              {conditions: []corev1.NodeCondition{ready}, present: []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: no}}},
		"from not ready to unreachable": {
			conditions: []corev1.NodeCondition{condition(corev1.NodeReady, corev1.ConditionUnknown)},
			present:    []corev1.Taint{{Key: corev1.TaintNodeNotReady, Effect: no}, {Key: "mine", Effect: no}},
			want:       []string{"mine:NoSchedule", "node.kubernetes.io/unreachable:NoSchedule"},
		},
		"a NoExecute taint of the same key is somebody else's": {
			conditions: []corev1.NodeCondition{ready},
			present:    []corev1.Taint{{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}},
			want:       []string{"node.kubernetes.io/unreachable:NoExecute"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			n := &keelsonv1.Node{}
			n.Spec.Unschedulable, n.Spec.Taints, n.Status.Conditions = tc.cordoned, tc.present, tc.conditions
			once := computeTaints(n)
			if diff := cmp.Diff(tc.want, taintKeys(once)); diff != "" {
				t.Errorf("taints (-want +got):\n%s", diff)
			}
			n.Spec.Taints = once
			if diff := cmp.Diff(once, computeTaints(n)); diff != "" {
				t.Errorf("a second time changes something (-want +got):\n%s", diff)
			}
		})
	}
}
