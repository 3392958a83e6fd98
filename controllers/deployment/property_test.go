package deployment

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// TestRolloutsKeepTheirBounds lets the parts of the world act in any order, each as late
// as it likes. While nobody scales, there are never more Pods than the surge allows, and
// never fewer available ones than there must be, once there were as many. Left alone,
// every rollout ends.
func TestRolloutsKeepTheirBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		w.settle()
		spec := w.settings()
		images := []string{"main:1", "main:2", "main:3", "broken"}
		actions := map[string]func(*rapid.T){
			"step": func(*rapid.T) { w.step() },
			"sync": func(t *rapid.T) { pick(t, w).sync() },
			"ready": func(t *rapid.T) {
				if s := pick(t, w); s.works() {
					s.makeReady(1)
				}
			},
			"ended": func(t *rapid.T) { pick(t, w).terminating = 0 },
			"image": func(t *rapid.T) { w.image(rapid.SampledFrom(images).Draw(t, "image")) },
			"pause": func(t *rapid.T) { w.pause(rapid.Bool().Draw(t, "paused")) },
			"": func(t *rapid.T) {
				total, ready := w.live()
				if total > spec.maxReplicas() {
					t.Fatalf("%d Pods, at most %d are allowed:\n%s", total, spec.maxReplicas(), strings.Join(w.log, "\n"))
				}
				if ready < spec.minAvailable() {
					t.Fatalf("%d Pods available, at least %d must be:\n%s", ready, spec.minAvailable(), strings.Join(w.log, "\n"))
				}
			},
		}
		t.Repeat(actions)
		mustEnd(t, w)
	})
}

// TestRolloutsEndWhateverHappens is the same with a user who scales, Pods that break and
// a strategy of either type.
func TestRolloutsEndWhateverHappens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := randomWorld(t)
		if rapid.Bool().Draw(t, "recreate") {
			w.d.Spec.Strategy.Type, w.d.Spec.Strategy.RollingUpdate = "Recreate", nil
		}
		w.settle()
		images := []string{"main:1", "main:2", "main:3", "broken"}
		t.Repeat(map[string]func(*rapid.T){
			"step": func(*rapid.T) { w.step() },
			"sync": func(t *rapid.T) { pick(t, w).sync() },
			"ready": func(t *rapid.T) {
				if s := pick(t, w); s.works() {
					s.makeReady(1)
				}
			},
			"break": func(t *rapid.T) {
				if s := pick(t, w); s.ready > 0 {
					s.ready, s.unready = s.ready-1, s.unready+1
				}
			},
			"scale": func(t *rapid.T) { w.scale(rapid.Int32Range(0, 12).Draw(t, "replicas")) },
			"image": func(t *rapid.T) { w.image(rapid.SampledFrom(images).Draw(t, "image")) },
			"pause": func(t *rapid.T) { w.pause(rapid.Bool().Draw(t, "paused")) },
		})
		mustEnd(t, w)
	})
}

func randomWorld(t *rapid.T) *world {
	replicas := rapid.Int32Range(0, 12).Draw(t, "replicas")
	return newWorld(replicas, randomBound(t, "surge"), randomBound(t, "unavailable"))
}

func randomBound(t *rapid.T, label string) intstr.IntOrString {
	if rapid.Bool().Draw(t, label+" in percent") {
		return intstr.FromString(rapid.SampledFrom([]string{"0%", "1%", "25%", "50%", "100%"}).Draw(t, label))
	}
	return intstr.FromInt32(rapid.Int32Range(0, 5).Draw(t, label))
}

func pick(t *rapid.T, w *world) *worldSet {
	return w.sets[rapid.IntRange(0, len(w.sets)-1).Draw(t, "set")]
}

// mustEnd lets the rollout of a template that works come to its end.
func mustEnd(t *rapid.T, w *world) {
	w.pause(false)
	w.image("main:9")
	w.settle()
	want := *w.d.Spec.Replicas
	status := w.d.Status
	if status.UpdatedReplicas != want || status.AvailableReplicas != want || status.Replicas != want {
		t.Fatalf("the rollout hangs: %+v\n%s", status, strings.Join(w.log, "\n"))
	}
	c := conditions{list: status.Conditions}
	if had := c.get(progressing); had == nil || had.Reason != reasonSetComplete {
		t.Fatalf("complete, but %+v\n%s", had, strings.Join(w.log, "\n"))
	}
}
