package state_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// load is what a NodeInfo counts.
type load struct {
	Pods, MilliCPU int64
	Ports          int
}

func loads(snapshot *state.Snapshot) map[string]load {
	all := map[string]load{}
	for _, n := range snapshot.Nodes() {
		all[n.Node.Name] = load{int64(len(n.Pods)), n.Requested.MilliCPU, len(n.Ports)}
	}
	return all
}

func TestCacheFollowsPods(t *testing.T) {
	pod := func() *schedulertest.Pod {
		return schedulertest.MakePod("p").Asks("1", "").HostPort(80, corev1.ProtocolTCP, "")
	}
	one := load{Pods: 1, MilliCPU: 1000, Ports: 1}
	tests := map[string]struct {
		do   func(*state.Cache)
		want map[string]load
	}{
		"a bound pod counts": {
			func(c *state.Cache) { c.SetPod(pod().On("a").Info()) },
			map[string]load{"a": one, "b": {}},
		},
		"an assumed pod counts": {
			func(c *state.Cache) { c.Assume(pod().Info(), "a") },
			map[string]load{"a": one, "b": {}},
		},
		"a forgotten assumption does not": {
			func(c *state.Cache) { c.Assume(pod().Info(), "a"); c.Forget("uid-p") },
			map[string]load{"a": {}, "b": {}},
		},
		"an assumption that came true counts once": {
			func(c *state.Cache) { c.Assume(pod().Info(), "a"); c.SetPod(pod().On("a").Info()) },
			map[string]load{"a": one, "b": {}},
		},
		"forgetting comes too late for a pod seen bound": {
			func(c *state.Cache) {
				c.Assume(pod().Info(), "a")
				c.SetPod(pod().On("a").Info())
				c.Forget("uid-p")
			},
			map[string]load{"a": one, "b": {}},
		},
		"a pod that another scheduler put elsewhere": {
			func(c *state.Cache) { c.Assume(pod().Info(), "a"); c.SetPod(pod().On("b").Info()) },
			map[string]load{"a": {}, "b": one},
		},
		"a pod that is gone": {
			func(c *state.Cache) { c.SetPod(pod().On("a").Info()); c.RemovePod("uid-p") },
			map[string]load{"a": {}, "b": {}},
		},
		"a pod before its node": {
			func(c *state.Cache) {
				c.SetPod(pod().On("late").Info())
				c.SetNode(schedulertest.MakeNode("late").Obj())
			},
			map[string]load{"a": {}, "b": {}, "late": one},
		},
		"a node that leaves and comes back": {
			func(c *state.Cache) {
				c.SetPod(pod().On("a").Info())
				c.RemoveNode("a")
				c.SetNode(schedulertest.MakeNode("a").Obj())
			},
			map[string]load{"a": one, "b": {}},
		},
		"a pod that goes while its node is away": {
			func(c *state.Cache) {
				c.SetPod(pod().On("a").Info())
				c.RemoveNode("a")
				c.RemovePod("uid-p")
				c.SetNode(schedulertest.MakeNode("a").Obj())
			},
			map[string]load{"a": {}, "b": {}},
		},
		"a node that changes keeps its pods": {
			func(c *state.Cache) {
				c.SetPod(pod().On("a").Info())
				c.SetNode(schedulertest.MakeNode("a").Cordon().Obj())
			},
			map[string]load{"a": one, "b": {}},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := schedulertest.Cluster([]*keelsonv1.Node{schedulertest.MakeNode("a").Obj(), schedulertest.MakeNode("b").Obj()})
			snapshot := schedulertest.Snapshot(c)
			before := slices.Clone(snapshot.Nodes())
			tc.do(c)
			c.Update(snapshot)
			if diff := cmp.Diff(tc.want, loads(snapshot)); diff != "" {
				t.Errorf("loads (-want +got):\n%s", diff)
			}
			for _, n := range before {
				if len(n.Pods) != 0 {
					t.Errorf("an earlier NodeInfo changed: %s has %d pods", n.Node.Name, len(n.Pods))
				}
			}
		})
	}
}
