package env

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
)

// dyingManagers is how many managers WhileManagersDie lets die: the last after three
// seconds.
const dyingManagers = 60

// WhileManagersDie runs a manager again and again, each a little longer than the one
// before, and calls step when it has ended, until step says that all is done.
func (e *Environment) WhileManagersDie(t testing.TB, add func(ctrl.Manager) error, step func() (done bool)) {
	t.Helper()
	for round := range dyingManagers {
		stop := e.StartManager(t, add)
		time.Sleep(time.Duration(50+50*round) * time.Millisecond) // when it dies is what varies
		stop()
		if step() {
			return
		}
	}
	t.Fatalf("not done after %d managers", dyingManagers)
}

// Rollout looks at the Pods of a namespace between two managers.
type Rollout struct {
	// Seen has the UIDs of all Pods that there ever were.
	Seen map[string]bool
}

// Step makes new Pods ready, as their agents would, and returns how many that were ready
// before have image.
func (r *Rollout) Step(t testing.TB, e *Environment, namespace, image string) (done int) {
	t.Helper()
	if r.Seen == nil {
		r.Seen = map[string]bool{}
	}
	for _, pod := range e.Pods(t, namespace) {
		r.Seen[string(pod.UID)] = true
		switch {
		case len(pod.Status.Conditions) == 0:
			e.MakeReady(t, pod)
		case pod.Spec.Containers[0].Image == image && pod.Status.Conditions[0].Status == corev1.ConditionTrue:
			done++
		}
	}
	return done
}
