package daemonset

import (
	"fmt"
	"testing"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// BenchmarkPlan is one reconciliation without its IO, at rest, on 5,000 nodes.
func BenchmarkPlan(b *testing.B) {
	const count = 5000
	var nodes []keelsonv1.Node
	var pods []*keelsonv1.Pod
	for i := range count {
		name := fmt.Sprintf("node-%d", i)
		nodes = append(nodes, *node(name, map[string]string{"kubernetes.io/hostname": name}))
		pods = append(pods, ready(name, "new").Obj())
	}
	ds := builders.MakeDaemonSet("d").Obj()
	for b.Loop() {
		places := placesOf(eligibilityOf(&ds.Spec), nodes, pods)
		limits, err := limitsOf(&ds.Spec, desired(places))
		if err != nil {
			b.Fatal(err)
		}
		in := input{places: places, limits: limits, latest: isNew, now: now, hold: never}
		if p := makePlan(in); len(p.create)+len(p.remove) > 0 {
			b.Fatal("there is something to do at rest")
		}
		computeStatus(ds, in, nil)
	}
}
