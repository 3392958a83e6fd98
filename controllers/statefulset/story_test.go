package statefulset

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// world is a StatefulSet with Pods that nodes start, lose and end, as a test wants it.
type world struct {
	set    *appsv1.StatefulSet
	update string
	pods   map[string]*keelsonv1.Pod
	uids   int
}

func newWorld(t *rapid.T) *world {
	b := builders.MakeStatefulSet("web", rapid.Int32Range(0, 5).Draw(t, "replicas")).UID("set-uid").
		Start(rapid.Int32Range(0, 2).Draw(t, "start")).
		RollingUpdate(rapid.Int32Range(0, 3).Draw(t, "partition"), strconv.Itoa(rapid.IntRange(1, 3).Draw(t, "maxUnavailable")))
	if rapid.Bool().Draw(t, "parallel") {
		b.Parallel()
	}
	return &world{set: b.Obj(), update: "r1", pods: map[string]*keelsonv1.Pod{}}
}

func (w *world) names() revisions {
	current := w.set.Status.CurrentRevision
	if current == "" {
		current = w.update
	}
	return revisions{current: current, update: w.update}
}

func (w *world) list() []*keelsonv1.Pod {
	var all []*keelsonv1.Pod
	for _, pod := range w.pods {
		all = append(all, pod)
	}
	return all
}

func (w *world) settings(t *rapid.T) settings {
	s, err := settingsOf(w.set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reconcile plans and executes, checks what must always hold, and says whether there was
// anything to do.
func (w *world) reconcile(t *rapid.T) bool {
	s := &scope{set: w.set, spec: w.settings(t), names: w.names(), pods: w.list(), now: now}
	in := input{settings: s.spec, revisions: s.names, pods: s.pods, now: now}
	before, _ := in.partitionPods()
	s.plan = makePlan(in)
	w.check(t, in, before, s.plan)
	for _, at := range s.plan.create {
		name := podName("web", at.ordinal)
		if w.pods[name] != nil {
			t.Fatalf("%s would be there twice", name)
		}
		w.uids++
		w.pods[name] = pod(at.ordinal, at.revision).UID(fmt.Sprint("uid-", w.uids)).Obj()
	}
	for _, gone := range slices.Concat(s.plan.ended, s.plan.condemned, s.plan.updated) {
		if gone.DeletionTimestamp != nil {
			t.Fatalf("%s is deleted twice", gone.Name)
		}
		gone.DeletionTimestamp = new(metav1.NewTime(now))
	}
	status, _ := computeStatus(s)
	w.set.Status = status
	return len(s.plan.create)+len(s.plan.ended)+len(s.plan.condemned)+len(s.plan.updated)+len(s.plan.fix) > 0
}

func (w *world) check(t *rapid.T, in input, before []slot, p plan) {
	unavailable := 0
	for _, s := range before {
		if in.unavailable(s.pod) {
			unavailable++
		}
	}
	if !in.parallel {
		if len(p.create)+len(p.condemned) > 1 {
			t.Fatalf("%d created, %d condemned in one step, in order", len(p.create), len(p.condemned))
		}
		for _, at := range p.create {
			for _, lower := range before[:at.ordinal-in.start] {
				if in.unavailable(lower.pod) || !runningAndReady(lower.pod) {
					t.Fatalf("web-%d comes before web-%d is available", at.ordinal, lower.ordinal)
				}
			}
		}
		if unavailable > 0 && len(p.condemned)+len(p.updated) > 0 {
			t.Fatal("a Pod goes while one is not available")
		}
	}
	taken := 0
	for _, pod := range p.updated {
		if in.ordinal(pod)-in.start < in.partition {
			t.Fatalf("%s is below the partition", pod.Name)
		}
		if in.available(pod) {
			taken++
		}
	}
	if taken > 0 && unavailable+taken > in.maxUnavailable {
		t.Fatalf("%d unavailable and %d more, want at most %d", unavailable, taken, in.maxUnavailable)
	}
	for i, s := range before {
		if s.pod == nil && i < in.partition && s.revision != in.current {
			t.Fatalf("web-%d below the partition comes from %s", s.ordinal, s.revision)
		}
	}
}

// kubelet lets every Pod go one step on: ended ones vanish, others become ready.
func (w *world) kubelet() {
	for name, pod := range w.pods {
		switch {
		case pod.DeletionTimestamp != nil:
			delete(w.pods, name)
		case pod.Status.Phase == corev1.PodPending:
			w.makeReady(pod)
		}
	}
}

func (w *world) makeReady(pod *keelsonv1.Pod) {
	pod.Status = builders.MakePod("").Ready(long).Obj().Status
}

func (w *world) draw(t *rapid.T) *keelsonv1.Pod {
	var names []string
	for name := range w.pods {
		names = append(names, name)
	}
	if len(names) == 0 {
		t.Skip("no Pods")
	}
	slices.Sort(names)
	return w.pods[rapid.SampledFrom(names).Draw(t, "pod")]
}

// TestStories lets anything happen in any order, and then asks for an end.
func TestStories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		t.Repeat(map[string]func(*rapid.T){
			"reconcile": func(t *rapid.T) { w.reconcile(t) },
			"kubelet":   func(*rapid.T) { w.kubelet() },
			"ready": func(t *rapid.T) {
				if pod := w.draw(t); pod.Status.Phase == corev1.PodPending {
					w.makeReady(pod)
				}
			},
			"sick": func(t *rapid.T) {
				if pod := w.draw(t); pod.Status.Phase == corev1.PodRunning {
					pod.Status.Conditions[0].Status = corev1.ConditionFalse
				}
			},
			"fail": func(t *rapid.T) {
				w.draw(t).Status = keelsonv1.PodStatus{PodStatus: corev1.PodStatus{Phase: corev1.PodFailed}}
			},
			"delete": func(t *rapid.T) { w.draw(t).DeletionTimestamp = new(metav1.NewTime(now)) },
			"vanish": func(t *rapid.T) { delete(w.pods, w.draw(t).Name) },
			"scale":  func(t *rapid.T) { w.set.Spec.Replicas = new(rapid.Int32Range(0, 5).Draw(t, "replicas")) },
			"template": func(t *rapid.T) {
				w.update = rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "revision")
			},
			"partition": func(t *rapid.T) {
				w.set.Spec.UpdateStrategy.RollingUpdate.Partition = new(rapid.Int32Range(0, 5).Draw(t, "partition"))
			},
		})
		w.end(t)
	})
}

// end lets every Pod become healthy, and expects the StatefulSet to come to rest.
func (w *world) end(t *rapid.T) {
	for range 200 {
		for _, pod := range w.pods {
			if pod.Status.Phase == corev1.PodRunning {
				w.makeReady(pod)
			}
		}
		if !w.reconcile(t) && !slices.ContainsFunc(w.list(), func(p *keelsonv1.Pod) bool {
			return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodPending
		}) {
			w.atRest(t)
			return
		}
		w.kubelet()
	}
	t.Fatalf("never comes to rest: %d Pods, status %+v", len(w.pods), w.set.Status)
}

func (w *world) atRest(t *rapid.T) {
	in := w.settings(t)
	if len(w.pods) != in.replicas {
		t.Fatalf("%d Pods at rest, want %d", len(w.pods), in.replicas)
	}
	uids := map[types.UID]bool{}
	for i := range in.replicas {
		pod := w.pods[podName("web", in.start+i)]
		if pod == nil {
			t.Fatalf("web-%d is missing", in.start+i)
		}
		if i >= in.partition && revisionOf(pod) != w.update {
			t.Fatalf("%s is of %s at rest, want %s", pod.Name, revisionOf(pod), w.update)
		}
		uids[pod.UID] = true
	}
	if in.partition == 0 && w.set.Status.CurrentRevision != w.update {
		t.Fatalf("current revision %s at rest, want %s", w.set.Status.CurrentRevision, w.update)
	}
}
