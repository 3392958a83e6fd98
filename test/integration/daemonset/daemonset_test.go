package daemonset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	upstreamappsv1 "k8s.io/api/apps/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/daemonset"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func addController(mgr ctrl.Manager) error { return daemonset.Add(mgr, daemonset.Options{}) }

// onNodes makes nodes that are this test's only: named and labelled after it.
func onNodes(t *testing.T, names ...string) (label func(*corev1.PodTemplateSpec)) {
	t.Helper()
	for _, name := range names {
		makeNode(t, name)
	}
	return func(s *corev1.PodTemplateSpec) { s.Spec.NodeSelector = map[string]string{"test": label63(t)} }
}

func label63(t *testing.T) string { return strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) }

func nodeName(t *testing.T, name string) string { return label63(t) + "-" + name }

func makeNode(t *testing.T, name string) *keelsonv1.Node {
	t.Helper()
	node := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(t, name), Labels: map[string]string{"test": label63(t)}}}
	testEnv.Create(t, node)
	t.Cleanup(func() {
		if err := testEnv.Client.Delete(t.Context(), node); client.IgnoreNotFound(err) != nil && t.Context().Err() == nil {
			t.Errorf("failed to delete a Node: %v", err)
		}
	})
	return node
}

// target is the node that a Pod is for.
func target(pod *keelsonv1.Pod) string {
	if pod.Spec.NodeName != "" {
		return pod.Spec.NodeName
	}
	return pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
}

// eventuallyOn waits until live Pods of ns are for these nodes of the test, and returns them.
func eventuallyOn(t *testing.T, ns string, nodes ...string) []*keelsonv1.Pod {
	t.Helper()
	var want []string
	for _, node := range nodes {
		want = append(want, nodeName(t, node))
	}
	var live []*keelsonv1.Pod
	env.Eventually(t, func() string {
		live = slices.DeleteFunc(testEnv.Pods(t, ns), func(p *keelsonv1.Pod) bool { return p.DeletionTimestamp != nil })
		var got []string
		for _, pod := range live {
			got = append(got, target(pod))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Sprintf("Pods for %v, want %v", got, want)
		}
		return ""
	})
	return live
}

func eventuallyStatus(t *testing.T, ds *appsv1.DaemonSet, check func(upstreamappsv1.DaemonSetStatus) string) {
	t.Helper()
	env.Eventually(t, func() string {
		fresh := ds.DeepCopy()
		testEnv.Get(t, fresh)
		return check(fresh.Status.DaemonSetStatus)
	})
}

func TestPodsFollowTheNodes(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a", "b")).Obj()
	testEnv.Create(t, ds)
	for _, pod := range eventuallyOn(t, ns, "a", "b") {
		if !metav1.IsControlledBy(pod, ds) || !strings.HasPrefix(pod.Name, "d-") || pod.Labels["controller-revision-hash"] == "" {
			t.Errorf("Pod %s: owners %v, labels %v", pod.Name, pod.OwnerReferences, pod.Labels)
		}
	}
	testEnv.EventuallyEvent(t, ns, "SuccessfulCreate", "Created pod: d-")

	// A node that comes, one that is relabelled, one that drives out, one that keeps out.
	makeNode(t, "c")
	live := eventuallyOn(t, ns, "a", "b", "c")
	testEnv.MakeReady(t, live...)
	node := func(name string) *keelsonv1.Node {
		return &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(t, name)}}
	}
	env.Change(t, &testEnv, node("a"), func(n *keelsonv1.Node) { n.Labels["test"] = "other" })
	eventuallyOn(t, ns, "b", "c")
	env.Change(t, &testEnv, node("b"), func(n *keelsonv1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoExecute}}
	})
	eventuallyOn(t, ns, "c")
	env.Change(t, &testEnv, node("c"), func(n *keelsonv1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	})
	eventuallyStatus(t, ds, func(s upstreamappsv1.DaemonSetStatus) string {
		want := upstreamappsv1.DaemonSetStatus{NumberMisscheduled: 1, ObservedGeneration: 1}
		if s.NumberMisscheduled != 1 || s.DesiredNumberScheduled != 0 || s.NumberReady != 0 {
			return fmt.Sprintf("status %+v, want %+v", s, want)
		}
		return ""
	})
	env.Change(t, &testEnv, node("a"), func(n *keelsonv1.Node) { n.Labels["test"] = label63(t) })
	eventuallyOn(t, ns, "a", "c")
	// An unbound Pod for a node that is gone goes too.
	testEnv.Delete(t, node("a"))
	eventuallyOn(t, ns, "c")

	if out := testEnv.Kubectl(t, "get", "daemonsets.apps.keelson.dev", "-n", ns, "--no-headers"); !strings.Contains(out, "test="+label63(t)) {
		t.Errorf("kubectl get: %s", out)
	}
}

func TestDeletedPodsAreReplaced(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a")).Obj())
	first := eventuallyOn(t, ns, "a")[0]
	testEnv.Delete(t, first)
	env.Eventually(t, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID == first.UID {
			return fmt.Sprintf("Pods %v, want a new one", env.Names(all))
		}
		return ""
	})
}

func TestAnUpdateRollsAndGoesBack(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).RollingUpdate("0", "1").HistoryLimit(1).Template(onNodes(t, "a", "b", "c")).Obj()
	testEnv.Create(t, ds)
	testEnv.MakeReady(t, eventuallyOn(t, ns, "a", "b", "c")...)
	available := func(n int32) func(upstreamappsv1.DaemonSetStatus) string {
		return func(s upstreamappsv1.DaemonSetStatus) string {
			if s.NumberAvailable != n || s.UpdatedNumberScheduled != n || s.NumberUnavailable != 0 {
				return fmt.Sprintf("available %d, updated %d, want %d", s.NumberAvailable, s.UpdatedNumberScheduled, n)
			}
			return ""
		}
	}
	eventuallyStatus(t, ds, available(3))
	before := testEnv.Revisions(t, ns)

	roll := func(image string) {
		t.Helper()
		env.Change(t, &testEnv, ds, func(d *appsv1.DaemonSet) { d.Spec.Template.Spec.Containers[0].Image = image })
		env.Eventually(t, func() string {
			all := testEnv.Pods(t, ns)
			serving, updated := 0, 0
			for _, pod := range all {
				isNew := pod.Spec.Containers[0].Image == image
				if isNew {
					updated++
				}
				switch ready := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool { return c.Status == corev1.ConditionTrue }); {
				case ready:
					serving++
				case isNew:
					testEnv.MakeReady(t, pod)
				}
			}
			if serving < 2 {
				t.Fatalf("%d of 3 nodes serve, want at least 2", serving)
			}
			if serving != 3 || updated != 3 {
				return fmt.Sprintf("%d serve, %d updated", serving, updated)
			}
			return ""
		})
		eventuallyStatus(t, ds, available(3))
	}
	roll("two")
	after := testEnv.Revisions(t, ns)
	if len(before) != 1 || len(after) != 2 || after[1].Revision != 2 || after[0].Name != before[0].Name {
		t.Fatalf("revisions %+v, then %+v", before, after)
	}
	// Going back to the first template takes its revision up again.
	roll("test.invalid/main:1")
	if back := testEnv.Revisions(t, ns); len(back) != 2 || back[1].Name != before[0].Name || back[1].Revision != 3 {
		t.Errorf("revisions after going back %+v", back)
	}
	// One old revision is kept.
	roll("three")
	env.Eventually(t, func() string {
		if left := testEnv.Revisions(t, ns); len(left) != 2 || left[0].Revision != 3 || left[1].Revision != 4 {
			return fmt.Sprintf("%d revisions, the oldest %d", len(left), left[0].Revision)
		}
		return ""
	})
}

func TestFailedPodsAreReplacedAfterABackOff(t *testing.T) {
	clock := clocktesting.NewFakeClock(time.Now())
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return daemonset.Add(mgr, daemonset.Options{Clock: clock}) })
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a")).Obj())
	failing := func() *keelsonv1.Pod {
		pod := eventuallyOn(t, ns, "a")[0]
		testEnv.Fail(t, pod)
		return pod
	}
	replaced := func(old *keelsonv1.Pod) {
		t.Helper()
		env.Eventually(t, func() string {
			if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID == old.UID {
				return fmt.Sprintf("Pods %v, want a new one", env.Names(all))
			}
			return ""
		})
	}
	replaced(failing()) // the first at once
	testEnv.EventuallyEvent(t, ns, "FailedDaemonPod", "Found failed daemon pod "+ns+"/d-")
	second := failing()
	env.Always(t, 300*time.Millisecond, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID != second.UID {
			return fmt.Sprintf("Pods %v: replaced before its time", env.Names(all))
		}
		return ""
	})
	clock.Step(2 * time.Second)
	replaced(second)
}

func TestOrphansComeBack(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a")).Obj()
	testEnv.Create(t, ds)
	pod := eventuallyOn(t, ns, "a")[0]
	revision := testEnv.Revisions(t, ns)[0]
	env.Orphan(t, &testEnv, pod)
	env.Orphan(t, &testEnv, &revision)
	env.Eventually(t, func() string {
		testEnv.Get(t, pod)
		testEnv.Get(t, &revision)
		if !metav1.IsControlledBy(pod, ds) || !metav1.IsControlledBy(&revision, ds) {
			return fmt.Sprintf("owners of the Pod %v, of the revision %v", pod.OwnerReferences, revision.OwnerReferences)
		}
		return ""
	})
	if all := testEnv.Pods(t, ns); len(all) != 1 {
		t.Errorf("Pods %v, want the adopted one", env.Names(all))
	}
}

// TestADeletedRevisionChangesNoPod: it comes back under its name.
func TestADeletedRevisionChangesNoPod(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a")).Obj())
	pod := eventuallyOn(t, ns, "a")[0]
	testEnv.MakeReady(t, pod)
	old := testEnv.Revisions(t, ns)[0]
	testEnv.Delete(t, &old)
	env.Eventually(t, func() string {
		if now := testEnv.Revisions(t, ns); len(now) != 1 || now[0].Name != old.Name || now[0].UID == old.UID {
			return fmt.Sprintf("%d revisions, want %s again", len(now), old.Name)
		}
		return ""
	})
	env.Always(t, 200*time.Millisecond, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID != pod.UID {
			return fmt.Sprintf("Pods %v: replaced", env.Names(all))
		}
		return ""
	})
}

func TestAnIdleControllerWritesNothing(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a")).Obj()
	testEnv.Create(t, ds)
	pod := eventuallyOn(t, ns, "a")[0]
	testEnv.MakeReady(t, pod)
	eventuallyStatus(t, ds, func(s upstreamappsv1.DaemonSetStatus) string {
		if s.NumberAvailable != 1 {
			return "not available"
		}
		return ""
	})
	testEnv.Get(t, ds)
	testEnv.Get(t, pod)
	beat := 0
	env.Always(t, 500*time.Millisecond, func() string {
		// Heartbeats wake nobody.
		beat++
		env.Change(t, &testEnv, &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(t, "a")}}, func(n *keelsonv1.Node) {
			n.Annotations = map[string]string{"beat": fmt.Sprint(beat)}
		})
		fresh, freshPod := ds.DeepCopy(), pod.DeepCopy()
		testEnv.Get(t, fresh)
		testEnv.Get(t, freshPod)
		if fresh.ResourceVersion != ds.ResourceVersion || freshPod.ResourceVersion != pod.ResourceVersion {
			return "something was written"
		}
		return ""
	})
}

func TestASpecThatAdmissionNeverSaw(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	onNodes(t, "a")
	all := builders.MakeDaemonSet("all").Namespace(ns).Obj()
	all.Spec.Selector = &metav1.LabelSelector{}
	testEnv.Create(t, all)
	testEnv.EventuallyEvent(t, ns, "SelectingAll", "This daemon set is selecting all pods. A non-empty selector is required.")
	unlike := builders.MakeDaemonSet("unlike").Namespace(ns).Obj()
	unlike.Spec.Selector.MatchLabels["app"] = "other"
	testEnv.Create(t, unlike)
	testEnv.EventuallyEvent(t, ns, "InvalidSpec", "spec.template.metadata.labels: `selector` does not match template `labels`")
	if got := testEnv.Pods(t, ns); len(got) != 0 {
		t.Errorf("Pods %v, want none", env.Names(got))
	}
}

// TestTwoManagersConverge: both may make a Pod for a node; one stays.
func TestTwoManagersConverge(t *testing.T) {
	testEnv.StartManager(t, addController)
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	ds := builders.MakeDaemonSet("d").Namespace(ns).Template(onNodes(t, "a", "b", "c")).Obj()
	testEnv.Create(t, ds)
	testEnv.MakeReady(t, eventuallyOn(t, ns, "a", "b", "c")...)
	eventuallyStatus(t, ds, func(s upstreamappsv1.DaemonSetStatus) string {
		if s.CurrentNumberScheduled != 3 {
			return fmt.Sprintf("scheduled %d", s.CurrentNumberScheduled)
		}
		return ""
	})
	eventuallyOn(t, ns, "a", "b", "c")
	if got := testEnv.Revisions(t, ns); len(got) != 1 {
		t.Errorf("%d revisions, want 1", len(got))
	}
}
