package daemonset

import (
	"testing"

	upstreamappsv1 "k8s.io/api/apps/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// TestManagersThatDie ends the manager again and again, a little later each time, in the
// middle of a start and of an update; the end is the same.
func TestManagersThatDie(t *testing.T) {
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).RollingUpdate("0", "2").Template(onNodes(t, "a", "b", "c", "d", "e")).Obj()
	testEnv.Create(t, ds)
	image := ds.Spec.Template.Spec.Containers[0].Image
	var rollout env.Rollout
	testEnv.WhileManagersDie(t, addController, func() (done bool) {
		switch {
		case rollout.Step(t, &testEnv, ns, image) < 5:
			return false
		case image == "two":
			return true
		}
		image = "two"
		env.Change(t, &testEnv, ds, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = image })
		return false
	})
	testEnv.StartManager(t, addController)
	eventuallyStatus(t, ds, func(s upstreamappsv1.DaemonSetStatus) string {
		if s.NumberAvailable != 5 || s.UpdatedNumberScheduled != 5 {
			return "not all are available and updated"
		}
		return ""
	})
	// A creation whose answer the end of the manager cut off may cost a Pod, which goes
	// again; none may be left.
	if got := testEnv.Revisions(t, ns); len(got) != 2 || len(rollout.Seen) < 10 {
		t.Errorf("%d revisions and %d Pods over time, want 2 and at least 10", len(got), len(rollout.Seen))
	}
	eventuallyOn(t, ns, "a", "b", "c", "d", "e")
}
