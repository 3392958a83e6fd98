package daemonset

import (
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// TestManagersThatDie ends the manager again and again, a little later each time, in the
// middle of a start and of an update; the end is the same.
func TestManagersThatDie(t *testing.T) {
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).RollingUpdate("0", "2").Template(onNodes(t, "a", "b", "c", "d", "e")).Obj()
	create(t, ds)
	image := ds.Spec.Template.Spec.Containers[0].Image
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
		if done < 5 {
			continue
		}
		if image == "two" {
			stop := testEnv.StartManager(t, addController)
			defer stop()
			eventuallyStatus(t, ds, func(s upstreamappsv1.DaemonSetStatus) string {
				if s.NumberAvailable != 5 || s.UpdatedNumberScheduled != 5 {
					return "not all are available and updated"
				}
				return ""
			})
			// A creation whose answer the end of the manager cut off may cost a Pod, which
			// goes again; none may be left.
			if got := revisions(t, ns); len(got) != 2 || len(seen) < 10 {
				t.Errorf("%d revisions and %d Pods over time, want 2 and at least 10", len(got), len(seen))
			}
			eventuallyOn(t, ns, "a", "b", "c", "d", "e")
			return
		}
		image = "two"
		change(t, ds, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = image })
	}
	t.Fatalf("not done after 60 managers: %v", names(pods(t, ns)))
}
