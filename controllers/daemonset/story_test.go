package daemonset

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

// world is a DaemonSet on nodes that come, go and change, with Pods that start and end.
type world struct {
	ds    *appsv1.DaemonSet
	hash  string
	nodes map[string]*keelsonv1.Node
	pods  []*keelsonv1.Pod
	made  int
}

func (w *world) input(t *rapid.T) input {
	var nodes []keelsonv1.Node
	for _, node := range w.nodes {
		nodes = append(nodes, *node)
	}
	places := placesOf(eligibilityOf(&w.ds.Spec), nodes, w.pods)
	limits, err := limitsOf(&w.ds.Spec, desired(places))
	if err != nil {
		t.Fatal(err)
	}
	latest := func(pod *keelsonv1.Pod) bool { return pod.Labels[hashLabel] == w.hash }
	return input{places: places, limits: limits, latest: latest, now: now, hold: never}
}

func (w *world) reconcile(t *rapid.T) bool {
	in := w.input(t)
	p := makePlan(in)
	w.check(t, in, p)
	for _, pod := range p.remove {
		if pod.DeletionTimestamp != nil {
			t.Fatalf("%s is deleted twice", pod.Name)
		}
		pod.DeletionTimestamp = new(metav1.NewTime(now))
	}
	for _, node := range p.create {
		w.made++
		pod := renderPod(podcontrol.Owner{Object: w.ds, Kind: kind}, &w.ds.Spec.Template, w.hash, node)
		pod.Name = fmt.Sprintf("d-%06d", w.made)
		pod.Status.Phase = corev1.PodPending
		w.pods = append(w.pods, pod)
	}
	return len(p.create)+len(p.remove) > 0
}

// check holds after every step, whatever happened before.
func (w *world) check(t *rapid.T, in input, p plan) {
	for _, place := range in.places {
		live := 0
		for _, pod := range place.pods {
			if pod.DeletionTimestamp == nil {
				live++
			}
		}
		switch created := slices.Contains(p.create, place.name); {
		case created && !place.run:
			t.Fatalf("a Pod for node %s, which should have none", place.name)
		case created && !in.limits.surges() && len(place.pods) > 0:
			t.Fatalf("a second Pod for node %s without a surge", place.name)
		case created && live > 1:
			t.Fatalf("a third Pod for node %s", place.name)
		}
	}
	if !in.limits.surges() && in.limits.rolling {
		w.checkAvailability(t, in, p)
	}
}

// checkAvailability: no Pod that serves on a node that should have it goes for an
// update beyond the limit.
func (w *world) checkAvailability(t *rapid.T, in input, p plan) {
	unavailable, taken := 0, 0
	for _, place := range in.places {
		serving := func(pod *keelsonv1.Pod) bool { return pod.DeletionTimestamp == nil && in.available(pod) }
		going := func(pod *keelsonv1.Pod) bool { return slices.Contains(p.remove, pod) }
		stays := func(pod *keelsonv1.Pod) bool { return serving(pod) && !going(pod) }
		switch {
		case !place.run:
		case slices.ContainsFunc(place.pods, stays):
		case slices.ContainsFunc(place.pods, serving):
			taken++
		default:
			unavailable++
		}
	}
	if taken > 0 && unavailable+taken > in.limits.unavailable {
		t.Fatalf("%d nodes are unavailable and %d more become so, want at most %d", unavailable, taken, in.limits.unavailable)
	}
}

// kubelet binds, starts and ends what should be.
func (w *world) kubelet() {
	w.pods = slices.DeleteFunc(w.pods, func(pod *keelsonv1.Pod) bool {
		return pod.DeletionTimestamp != nil || (pod.Spec.NodeName != "" && w.nodes[pod.Spec.NodeName] == nil)
	})
	for _, pod := range w.pods {
		if target := targetNode(pod); w.nodes[target] != nil && pod.Status.Phase == corev1.PodPending {
			pod.Spec.NodeName = target
			pod.Status = builders.MakePod("").Ready(long).Obj().Status
		}
	}
}

func (w *world) draw(t *rapid.T) *keelsonv1.Pod {
	if len(w.pods) == 0 {
		t.Skip("no Pods")
	}
	return w.pods[rapid.IntRange(0, len(w.pods)-1).Draw(t, "pod")]
}

// TestStories lets anything happen in any order, and then asks for an end.
func TestStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{hash: "h1", nodes: map[string]*keelsonv1.Node{}}
		b := builders.MakeDaemonSet("d").Template(func(s *corev1.PodTemplateSpec) { s.Spec.NodeSelector = map[string]string{"run": "yes"} })
		switch rapid.IntRange(0, 4).Draw(t, "limits") {
		case 0: // the default
		case 1:
			b.RollingUpdate("0", "2")
		case 2:
			b.RollingUpdate("0", "50%")
		case 3:
			b.RollingUpdate("1", "0")
		case 4:
			b.RollingUpdate("50%", "0")
		}
		w.ds = b.Obj()
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		t.Repeat(map[string]func(*rapid.T){
			"reconcile": func(t *rapid.T) { w.reconcile(t) },
			"kubelet":   func(*rapid.T) { w.kubelet() },
			"add": func(t *rapid.T) {
				n := name.Draw(t, "node")
				w.nodes[n] = node(n, map[string]string{"run": "yes"})
			},
			"remove":  func(t *rapid.T) { delete(w.nodes, name.Draw(t, "node")) },
			"relabel": func(t *rapid.T) { n := name.Draw(t, "node"); w.nodes[n] = node(n, map[string]string{"run": "no"}) },
			"taint": func(t *rapid.T) {
				n := name.Draw(t, "node")
				effect := rapid.SampledFrom([]corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute}).Draw(t, "effect")
				w.nodes[n] = node(n, map[string]string{"run": "yes"}, taint("dedicated", effect))
			},
			"sick": func(t *rapid.T) { w.draw(t).Status.Conditions = nil },
			"fail": func(t *rapid.T) {
				w.draw(t).Status = keelsonv1.PodStatus{PodStatus: corev1.PodStatus{Phase: corev1.PodFailed}}
			},
			"delete":   func(t *rapid.T) { w.draw(t).DeletionTimestamp = new(metav1.NewTime(now)) },
			"template": func(t *rapid.T) { w.hash = rapid.SampledFrom([]string{"h1", "h2", "h3"}).Draw(t, "hash") },
		})
		w.end(t)
	})
}

// end lets every Pod become healthy, and expects the DaemonSet to come to rest.
func (w *world) end(t *rapid.T) {
	for range 200 {
		for _, pod := range w.pods {
			if pod.Status.Phase == corev1.PodRunning {
				pod.Status = builders.MakePod("").Ready(long).Obj().Status
			}
		}
		busy := w.reconcile(t)
		if !busy && !slices.ContainsFunc(w.pods, func(p *keelsonv1.Pod) bool {
			return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodPending || w.nodes[targetNode(p)] == nil
		}) {
			w.atRest(t)
			return
		}
		w.kubelet()
	}
	t.Fatalf("never comes to rest: %d Pods on %d nodes", len(w.pods), len(w.nodes))
}

func (w *world) atRest(t *rapid.T) {
	in := w.input(t)
	for _, place := range in.places {
		switch {
		case place.run && (len(place.pods) != 1 || !in.latest(place.pods[0]) || !in.available(place.pods[0])):
			t.Fatalf("node %s has %d Pods at rest, want a new one that is available", place.name, len(place.pods))
		case !place.run && !place.stay && len(place.pods) > 0:
			t.Fatalf("node %s has %d Pods at rest, want none", place.name, len(place.pods))
		}
	}
	status, _ := computeStatus(w.ds, in, nil)
	if n := int32(desired(in.places)); status.NumberAvailable != n || status.UpdatedNumberScheduled != n || status.NumberUnavailable != 0 {
		t.Fatalf("status at rest %+v, want all of %d", status.DaemonSetStatus, n)
	}
}
