package planner_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// load is what a NodeInfo counts.
type load struct{ Pods, MilliCPU int64 }

func loads(snapshot *state.Snapshot) map[string]load {
	all := map[string]load{}
	for _, n := range snapshot.Nodes() {
		all[n.Node.Name] = load{int64(len(n.Pods)), n.Requested.MilliCPU}
	}
	return all
}

func update(c *state.Cache, s *state.Snapshot) *state.Snapshot {
	c.Update(s)
	return s
}

// Whatever happens in whatever order, no Node is planned fuller than it is, and the
// sums equal those of the Pods.
func TestSchedulingNeverOvercommits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, snapshot := state.NewCache(), state.NewSnapshot()
		planner := newPlanner(rapid.Uint64().Draw(t, "seed"))
		capacity := map[string]int64{}
		for i := range rapid.IntRange(1, 5).Draw(t, "nodes") {
			cpu := rapid.Int64Range(0, 4000).Draw(t, "cpu")
			node := schedulertest.MakeNode(fmt.Sprintf("n%d", i)).Room(fmt.Sprintf("%dm", cpu), "64Gi", "5").Obj()
			capacity[node.Name] = cpu
			c.SetNode(node)
		}
		placed := map[types.UID]string{}
		asked := map[types.UID]int64{}
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			uid := types.UID(fmt.Sprintf("uid-p%d", step))
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1, 2:
				milli := rapid.Int64Range(0, 1500).Draw(t, "request")
				pod := schedulertest.MakePod(fmt.Sprintf("p%d", step)).Asks(fmt.Sprintf("%dm", milli), "1Mi").Info()
				placement := planner.Plan(pod, update(c, snapshot))
				if placement.Refusal != nil {
					continue
				}
				c.Assume(pod, placement.Node)
				placed[uid], asked[uid] = placement.Node, milli
			case 3:
				for gone := range placed {
					c.Forget(gone)
					delete(placed, gone)
					break
				}
			case 4:
				for seen, node := range placed {
					name := string(seen)[len("uid-"):]
					c.SetPod(schedulertest.MakePod(name).Asks(fmt.Sprintf("%dm", asked[seen]), "1Mi").On(node).Info())
					c.RemovePod(seen)
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
		if diff := cmp.Diff(want, loads(update(c, snapshot))); diff != "" {
			t.Fatalf("loads (-want +got):\n%s", diff)
		}
		for name, l := range want {
			if l.MilliCPU > capacity[name] || l.Pods > 5 {
				t.Fatalf("%s holds %+v of %dm", name, l, capacity[name])
			}
		}
	})
}

// However Pods with anti-affinity come, no two that keep apart share a domain, and Pods
// that spread stay within their skew.
func TestAntiAffinityAndSpreadAreNeverViolated(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, snapshot := state.NewCache(), state.NewSnapshot()
		zones := map[string]string{}
		for i := range rapid.IntRange(1, 6).Draw(t, "nodes") {
			name, zone := fmt.Sprintf("n%d", i), fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "zone"))
			zones[name] = zone
			c.SetNode(schedulertest.MakeNode(name).Zone(zone).Obj())
		}
		p := newPlanner(rapid.Uint64().Draw(t, "seed"))
		apart, spread := map[string]int{}, map[string]int{}
		for _, zone := range zones {
			spread[zone] = 0
		}
		for i := range rapid.IntRange(1, 30).Draw(t, "pods") {
			pod := schedulertest.MakePod(fmt.Sprintf("p%d", i))
			hermit := rapid.Bool().Draw(t, "hermit")
			if hermit {
				pod.Label("app", "hermit").Without(schedulertest.Term(hostname, "app", "hermit"))
			} else {
				pod.Label("app", "even").Spread(1, zoneKey, "DoNotSchedule", "app", "even")
			}
			placement := p.Plan(pod.Info(), update(c, snapshot))
			if placement.Refusal != nil {
				if !hermit {
					t.Fatalf("a Pod that spreads fits nowhere: %s", placement.Refusal.Message())
				}
				continue
			}
			c.Assume(pod.Info(), placement.Node)
			if hermit {
				if apart[placement.Node]++; apart[placement.Node] > 1 {
					t.Fatalf("two hermits on %s", placement.Node)
				}
				continue
			}
			spread[zones[placement.Node]]++
			least := 1 << 30
			for _, count := range spread {
				least = min(least, count)
			}
			if spread[zones[placement.Node]]-least > 1 {
				t.Fatalf("Pods by zone: %v", spread)
			}
		}
	})
}
