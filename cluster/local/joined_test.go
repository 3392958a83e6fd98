package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/join"
)

func TestWhichJoinedNodesCanBeDeleted(t *testing.T) {
	node := func(name string, ready corev1.ConditionStatus) keelsonv1.Node {
		n := keelsonv1.Node{}
		n.Name = name
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
		return n
	}
	all := []keelsonv1.Node{node("box", corev1.ConditionTrue), node("attic", corev1.ConditionFalse), node("lost", corev1.ConditionUnknown), node("busy", corev1.ConditionTrue)}
	for name, want := range map[string]string{
		"attic": "",
		"lost":  "",
		"box":   "keelson down",
		"busy":  "run 'keelson leave' on that machine first",
		"other": `there is no node "other": there are box, attic, lost, busy`,
	} {
		got, err := deletable(all, "box", name)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && got.Name != name {
			t.Errorf("%s: %v, %v; want %q", name, got, err, want)
		}
	}
}

func TestWhatJoinedNodesAreTold(t *testing.T) {
	s := Settings{ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16", LoadBalancerPool: []string{"192.0.2.7"}}
	want := join.ClusterConfig{
		ServiceCIDR: s.ServiceCIDR, ClusterCIDR: s.ClusterCIDR, ClusterDomain: "cluster.local", ClusterDNS: "10.254.0.10", LoadBalancerPool: s.LoadBalancerPool,
	}
	if diff := cmp.Diff(want, s.joinConfig()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	file := filepath.Join(t.TempDir(), "node.yaml")
	for text, c := range map[string]struct {
		want overlayConfig
		err  string
	}{
		nodeConfig: {},
		"kind: NodeConfiguration\noverlay: host-gw\noverlayPort: 1234\nmtu: 1400\n": {want: overlayConfig{"host-gw", 1234}},
		"overlay: [vxlan]\n": {err: file},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readOverlay(file)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || got != c.want && err == nil {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, c.want)
		}
	}
}
