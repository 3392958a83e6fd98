package state_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/keelson-dev/keelson/controllers/scheduler/internal/schedulertest"
	"github.com/keelson-dev/keelson/controllers/scheduler/internal/state"
)

// picture is all that a snapshot answers, in a form that can be compared.
type picture struct {
	Loads     map[string]load
	Web       map[string]int32
	Keepers   map[string]int64
	Images    int
	Order     int
	Nominated int
}

func look(s *state.Snapshot) picture {
	p := picture{Loads: loads(s), Web: map[string]int32{}, Keepers: map[string]int64{}, Images: s.NodesWithImage("web:1")}
	counts := s.Count("web", func(pod *state.PodInfo) bool { return pod.Labels()["app"] == "web" })
	for i, node := range s.Nodes() {
		p.Web[node.Node.Name] = counts[i]
		p.Nominated += len(s.Nominated(node.Node.Name))
	}
	for _, uses := range s.Selecting(state.RequiredAntiAffinity, schedulertest.MakePod("x").Label("app", "web").Info()) {
		for node, count := range uses {
			p.Keepers[node.Node.Name] += count
		}
	}
	seen := map[string]bool{}
	for i := range s.Len() {
		seen[s.InOrder(i).Node.Name] = true
	}
	p.Order = len(seen)
	return p
}

// A snapshot that follows changes answers as one that begins anew.
func TestSnapshotFollowsTheCache(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, followed := state.NewCache(), state.NewSnapshot()
		nodes, pods := map[string]*schedulertest.Node{}, map[string]*schedulertest.Pod{}
		nominated := map[string]string{}
		pick := func(of []string) string { slices.Sort(of); return rapid.SampledFrom(of).Draw(t, "which") }
		for step := range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch what := rapid.IntRange(0, 7).Draw(t, "what"); {
			case what <= 1:
				name := fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "node"))
				nodes[name] = schedulertest.MakeNode(name).Zone(fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "zone")))
				if rapid.Bool().Draw(t, "image") {
					nodes[name].Image("web:1", 1)
				}
				c.SetNode(nodes[name].Obj())
			case what == 2 && len(nodes) > 0:
				name := pick(slices.Collect(maps.Keys(nodes)))
				delete(nodes, name)
				c.RemoveNode(name)
			case what <= 5:
				pod := schedulertest.MakePod(fmt.Sprintf("p%d", step)).Asks("1", "").On(fmt.Sprintf("n%d", rapid.IntRange(0, 5).Draw(t, "on")))
				if rapid.Bool().Draw(t, "web") {
					pod.Label("app", "web")
				}
				if rapid.Bool().Draw(t, "keeper") {
					pod.Without(schedulertest.Term(corev1.LabelHostname, "app", "web"))
				}
				pods[fmt.Sprintf("p%d", step)] = pod
				c.SetPod(pod.Info())
			case what == 6 && len(pods) > 0:
				name := pick(slices.Collect(maps.Keys(pods)))
				delete(pods, name)
				c.RemovePod(types.UID("uid-" + name))
			case what == 7:
				name := fmt.Sprintf("w%d", rapid.IntRange(0, 3).Draw(t, "waiting"))
				nominated[name] = rapid.SampledFrom([]string{"", "n0", "n1"}).Draw(t, "nominated")
				c.Nominate(schedulertest.MakePod(name).Info(), nominated[name])
			}
			if rapid.Bool().Draw(t, "look") {
				c.Update(followed)
				look(followed)
			}
		}
		fresh := state.NewCache()
		for _, node := range nodes {
			fresh.SetNode(node.Obj())
		}
		for _, pod := range pods {
			fresh.SetPod(pod.Info())
		}
		for name, node := range nominated {
			fresh.Nominate(schedulertest.MakePod(name).Info(), node)
		}
		c.Update(followed)
		if diff := cmp.Diff(look(schedulertest.Snapshot(fresh)), look(followed)); diff != "" {
			t.Fatalf("the snapshot that followed (-fresh +followed):\n%s", diff)
		}
	})
}

func TestOrderTakesZonesInTurn(t *testing.T) {
	var nodes []*schedulertest.Node
	for i, zone := range []string{"a", "a", "a", "b", "b", "c"} {
		nodes = append(nodes, schedulertest.MakeNode(fmt.Sprintf("%s%d", zone, i)).Zone(zone))
	}
	s := schedulertest.SnapshotOf(schedulertest.Nodes(nodes...))
	var got []string
	for i := range s.Len() {
		got = append(got, s.InOrder(i).Node.Name)
	}
	if diff := cmp.Diff([]string{"a0", "b3", "c5", "a1", "b4", "a2"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
