package scheduler

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// load is what a NodeInfo counts.
type load struct {
	Pods, MilliCPU int64
	Ports          int
}

func loads(c *nodeCache) map[string]load {
	all := map[string]load{}
	for _, n := range c.snapshot().Nodes() {
		all[n.Node.Name] = load{n.pods, n.requested.milliCPU, len(n.ports)}
	}
	return all
}

func TestCacheFollowsPods(t *testing.T) {
	pod := func() *podMaker { return makePod("p").asks("1", "").hostPort(80, corev1.ProtocolTCP, "") }
	one := load{Pods: 1, MilliCPU: 1000, Ports: 1}
	tests := map[string]struct {
		do   func(*nodeCache)
		want map[string]load
	}{
		"a bound pod counts": {
			func(c *nodeCache) { c.setPod(pod().on("a").info()) },
			map[string]load{"a": one, "b": {}},
		},
		"an assumed pod counts": {
			func(c *nodeCache) { c.assume(pod().info(), "a") },
			map[string]load{"a": one, "b": {}},
		},
		"a forgotten assumption does not": {
			func(c *nodeCache) { c.assume(pod().info(), "a"); c.forget("uid-p") },
			map[string]load{"a": {}, "b": {}},
		},
		"an assumption that came true counts once": {
			func(c *nodeCache) { c.assume(pod().info(), "a"); c.setPod(pod().on("a").info()) },
			map[string]load{"a": one, "b": {}},
		},
		"forgetting comes too late for a pod seen bound": {
			func(c *nodeCache) {
				c.assume(pod().info(), "a")
				c.setPod(pod().on("a").info())
				c.forget("uid-p")
			},
			map[string]load{"a": one, "b": {}},
		},
		"a pod that another scheduler put elsewhere": {
			func(c *nodeCache) { c.assume(pod().info(), "a"); c.setPod(pod().on("b").info()) },
			map[string]load{"a": {}, "b": one},
		},
		"a pod that is gone": {
			func(c *nodeCache) { c.setPod(pod().on("a").info()); c.removePod("uid-p") },
			map[string]load{"a": {}, "b": {}},
		},
		"a pod before its node": {
			func(c *nodeCache) { c.setPod(pod().on("late").info()); c.setNode(makeNode("late").obj()) },
			map[string]load{"a": {}, "b": {}, "late": one},
		},
		"a node that leaves and comes back": {
			func(c *nodeCache) {
				c.setPod(pod().on("a").info())
				c.removeNode("a")
				c.setNode(makeNode("a").obj())
			},
			map[string]load{"a": one, "b": {}},
		},
		"a pod that goes while its node is away": {
			func(c *nodeCache) {
				c.setPod(pod().on("a").info())
				c.removeNode("a")
				c.removePod("uid-p")
				c.setNode(makeNode("a").obj())
			},
			map[string]load{"a": {}, "b": {}},
		},
		"a node that changes keeps its pods": {
			func(c *nodeCache) { c.setPod(pod().on("a").info()); c.setNode(makeNode("a").cordon().obj()) },
			map[string]load{"a": one, "b": {}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := cluster([]*keelsonv1.Node{makeNode("a").obj(), makeNode("b").obj()})
			before := c.snapshot()
			tc.do(c)
			if diff := cmp.Diff(tc.want, loads(c)); diff != "" {
				t.Errorf("loads (-want +got):\n%s", diff)
			}
			for _, n := range before.Nodes() {
				if n.pods != 0 {
					t.Errorf("an earlier snapshot changed: %s has %d pods", n.Node.Name, n.pods)
				}
			}
		})
	}
}

// Whatever happens in whatever order, no Node is planned fuller than it is, and the
// sums equal those of the Pods.
func TestSchedulingNeverOvercommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newNodeCache()
		planner := newTestPlanner(rapid.Uint64().Draw(t, "seed"))
		capacity := map[string]int64{}
		for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
			cpu := rapid.Int64Range(0, 4000).Draw(t, "cpu")
			node := makeNode(fmt.Sprintf("n%d", i)).room(fmt.Sprintf("%dm", cpu), "64Gi", "5").obj()
			capacity[node.Name] = cpu
			c.setNode(node)
		}
		placed := map[types.UID]string{}
		asked := map[types.UID]int64{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			uid := types.UID(fmt.Sprintf("uid-p%d", step))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1, 2:
				milli := rapid.Int64Range(0, 1500).Draw(t, "request")
				pod := makePod(fmt.Sprintf("p%d", step)).asks(fmt.Sprintf("%dm", milli), "1Mi").info()
				placement := planner.plan(pod, c.snapshot())
				if placement.Refusal != nil {
					continue
				}
				c.assume(pod, placement.Node)
				placed[uid], asked[uid] = placement.Node, milli
			case 3:
				for gone := range placed {
					c.forget(gone)
					delete(placed, gone)
					break
				}
			case 4:
				for seen, node := range placed {
					name := string(seen)[len("uid-"):]
					c.setPod(makePod(name).asks(fmt.Sprintf("%dm", asked[seen]), "1Mi").on(node).info())
					c.removePod(seen)
					delete(placed, seen)
					break
				}
			}
		}
		want := map[string]load{}
		for name := range capacity {
			want[name] = load{}
		}
		for uid, node := range placed {
			want[node] = load{Pods: want[node].Pods + 1, MilliCPU: want[node].MilliCPU + asked[uid]}
		}
		if diff := cmp.Diff(want, loads(c)); diff != "" {
			t.Fatalf("loads (-want +got):\n%s", diff)
		}
		for name, l := range want {
			if l.MilliCPU > capacity[name] || l.Pods > 5 {
				t.Fatalf("%s holds %+v of %dm", name, l, capacity[name])
			}
		}
	})
}
