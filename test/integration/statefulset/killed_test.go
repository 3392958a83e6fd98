package statefulset

import (
	"testing"
	"time"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// TestManagersThatDie ends the manager again and again, a little later each time, in the
// middle of a start and of an update; the end is the same.
func TestManagersThatDie(t *testing.T) {
	ns := testEnv.Namespace(t)
	set := builders.MakeStatefulSet("web", 3).Namespace(ns).Obj()
	create(t, set)
	image := set.Spec.Template.Spec.Containers[0].Image
	seen := map[string]bool{}
	for round := range 60 {
		stop := testEnv.StartManager(t, addController)
		time.Sleep(time.Duration(50+50*round) * time.Millisecond) // when it dies is what the test varies
		stop()
		done := 0
		for _, pod := range pods(t, ns) {
			if len(pod.Status.Conditions) == 0 {
				makeReady(t, pod)
			} else if pod.Spec.Containers[0].Image == image {
				done++
			}
			seen[string(pod.UID)] = true
		}
		if done < 3 {
			continue
		}
		if image == "two" {
			stop := testEnv.StartManager(t, addController)
			defer stop()
			eventuallyStatus(t, set, counts(3, 3, 3, 3))
			if got := revisions(t, ns); len(got) != 2 || len(seen) != 6 {
				t.Errorf("%d revisions and %d Pods over time, want 2 and 6", len(got), len(seen))
			}
			return
		}
		image = "two"
		change(t, set, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = image })
	}
	t.Fatalf("not done after 60 managers: %v", names(pods(t, ns)))
}
