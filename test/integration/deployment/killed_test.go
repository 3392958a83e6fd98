package deployment

import (
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"

	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

// TestManagersComeAndGo kills the manager in the middle of rollouts, and lets two run at
// the same time, as during a change of leadership that the old leader missed.
func TestManagersComeAndGo(t *testing.T) {
	ns := testEnv.Namespace(t)
	d := builders.MakeDeployment("web", 20).Namespace(ns).Bounds(3, 2).Spec(image(works + "0")).Obj()
	testEnv.Create(t, d)
	for round, milliseconds := range []int{30, 120, 250, 60, 400, 90} {
		pause := time.Duration(milliseconds) * time.Millisecond
		stop := testEnv.StartManager(t, addControllers)
		edit(t, d, image(works+string(rune('1'+round))))
		wait(pause)
		if round%2 == 0 {
			other := testEnv.StartManager(t, addControllers)
			wait(pause)
			other()
		}
		stop()
	}
	testEnv.StartManager(t, addControllers)
	edit(t, d, func(s *upstreamappsv1.DeploymentSpec) { s.RevisionHistoryLimit = new(int32(1)) })
	eventuallyComplete(t, d)
	env.Eventually(t, func() string {
		sets, total := setsOf(t, ns), 0
		for _, pod := range pods(t, ns) {
			if pod.DeletionTimestamp == nil && pod.Spec.Containers[0].Image == works+"6" {
				total++
			}
		}
		if len(sets) != 2 || total != 20 || len(pods(t, ns)) != 20 {
			return "sets " + sizes(t, ns)
		}
		return ""
	})
}

// wait is the one thing here that time alone decides: when the manager dies.
func wait(d time.Duration) { <-time.After(d) }
