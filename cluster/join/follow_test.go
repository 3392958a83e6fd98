package join

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestTheAgentIsToldOfTheClustersSettings(t *testing.T) {
	plain := ClusterConfig{ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16,fd00::/48", ClusterDomain: "cluster.local"}
	for name, c := range map[string]struct {
		change func(*ClusterConfig)
		want   []string
	}{
		"the ranges alone":      {func(*ClusterConfig) {}, nil},
		"DNS":                   {func(c *ClusterConfig) { c.ClusterDNS = "10.254.0.10" }, []string{"--cluster-dns=10.254.0.10"}},
		"a pool":                {func(c *ClusterConfig) { c.LoadBalancerPool = []string{"192.0.2.7-192.0.2.9", "fd00:5::/112"} }, []string{"--load-balancer-pool=192.0.2.7-192.0.2.9,fd00:5::/112"}},
		"an overlay of its own": {func(c *ClusterConfig) { c.Overlay, c.OverlayPort = "vxlan", 8472 }, []string{"--overlay=vxlan", "--overlay-port=8472"}},
	} {
		cluster := plain
		c.change(&cluster)
		want := append([]string{"--service-cidr=10.254.0.0/16", "--cluster-cidr=10.244.0.0/16,fd00::/48", "--cluster-domain=cluster.local"}, c.want...)
		if diff := cmp.Diff(want, cluster.agentArgs()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// fakeNode counts what a follower does to a node.
type fakeNode struct {
	kept     []ClusterConfig
	restarts int
	// failKeep makes the next write fail.
	failKeep error
}

func (n *fakeNode) keep(s settings) error {
	err := n.failKeep
	n.failKeep = nil
	if err == nil {
		n.kept = append(n.kept, s.Cluster)
	}
	return err
}

func (n *fakeNode) restart(context.Context) error {
	n.restarts++
	return nil
}

func encoded(t *testing.T, c ClusterConfig) map[string]string {
	t.Helper()
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{ConfigKey: text}
}

func TestANodeFollowsTheSettingsOfItsCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before := ClusterConfig{ServiceCIDR: "10.254.0.0/16", ClusterCIDR: "10.244.0.0/16", ClusterDomain: "cluster.local"}
		after := before
		after.LoadBalancerPool = []string{"192.0.2.7"}
		client := fake.NewClientset(&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: ConfigNamespace, Name: ConfigName}, Data: encoded(t, before),
		})
		set := func(data map[string]string) {
			t.Helper()
			_, err := client.CoreV1().ConfigMaps(ConfigNamespace).Update(t.Context(), &corev1.ConfigMap{
				ObjectMeta: metav1.ObjectMeta{Namespace: ConfigNamespace, Name: ConfigName}, Data: data,
			}, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		node := &fakeNode{}
		f := &follower{client: client, settings: settings{NodeName: "attic", Cluster: before}, keep: node.keep, restart: node.restart}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); f.follow(ctx) }()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		if node.restarts != 0 {
			t.Errorf("the agent was ended %d times for settings that it has", node.restarts)
		}

		set(encoded(t, after))
		if node.restarts != 1 || f.now().Cluster.LoadBalancerPool == nil || f.now().NodeName != "attic" {
			t.Errorf("after a change: %d restarts, settings %+v", node.restarts, f.now())
		}
		set(map[string]string{ConfigKey: "{"})
		set(nil)
		if node.restarts != 1 {
			t.Errorf("after settings that cannot be read: %d restarts", node.restarts)
		}
		node.failKeep = errors.New("disk full")
		set(encoded(t, before))
		if node.restarts != 1 || f.now().Cluster.LoadBalancerPool == nil {
			t.Errorf("after settings that could not be kept: %d restarts, settings %+v", node.restarts, f.now())
		}
		set(encoded(t, after))
		set(encoded(t, before))
		if diff := cmp.Diff([]ClusterConfig{after, before}, node.kept); diff != "" || node.restarts != 2 {
			t.Errorf("%d restarts; kept (-want +got):\n%s", node.restarts, diff)
		}
	})
}
