package statefulset

import (
	"testing"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// TestManagersThatDie ends the manager again and again, a little later each time, in the
// middle of a start and of an update; the end is the same.
func TestManagersThatDie(t *testing.T) {
	ns := testEnv.Namespace(t)
	set := builders.MakeStatefulSet("web", 3).Namespace(ns).Obj()
	testEnv.Create(t, set)
	image := set.Spec.Template.Spec.Containers[0].Image
	var rollout env.Rollout
	testEnv.WhileManagersDie(t, addController, func() (done bool) {
		switch {
		case rollout.Step(t, &testEnv, ns, image) < 3:
			return false
		case image == "two":
			return true
		}
		image = "two"
		env.Change(t, &testEnv, set, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = image })
		return false
	})
	testEnv.StartManager(t, addController)
	eventuallyStatus(t, set, counts(3, 3, 3, 3))
	if got := testEnv.Revisions(t, ns); len(got) != 2 || len(rollout.Seen) != 6 {
		t.Errorf("%d revisions and %d Pods over time, want 2 and 6", len(got), len(rollout.Seen))
	}
}
