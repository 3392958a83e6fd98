// Package replicaset tests what ReplicaSets have beyond ReplicationControllers, and what
// either says when two owners have one selector, against a real API server.
package replicaset

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/replicaset"
	"github.com/keelson-dev/keelson/controllers/replication"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func addControllers(mgr ctrl.Manager) error {
	return errors.Join(replicaset.Add(mgr, replicaset.Options{}), replication.Add(mgr, replication.Options{}))
}

func podsOf(t *testing.T, owner client.Object) (pods []keelsonv1.Pod) {
	t.Helper()
	var list keelsonv1.PodList
	if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(owner.GetNamespace())); err != nil {
		t.Fatal(err)
	}
	for _, pod := range list.Items {
		if metav1.IsControlledBy(&pod, owner) {
			pods = append(pods, pod)
		}
	}
	return pods
}

func eventuallyPods(t *testing.T, owner client.Object, want int) (pods []keelsonv1.Pod) {
	t.Helper()
	env.Eventually(t, func() string {
		if pods = podsOf(t, owner); len(pods) != want {
			return fmt.Sprintf("%d Pods of %s, want %d", len(pods), owner.GetName(), want)
		}
		return ""
	})
	return pods
}

func TestSetBasedSelectors(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	testEnv.Create(t,
		builders.MakePod("front").Namespace(ns).Label("app", "web").Label("tier", "front").Obj(),
		builders.MakePod("back").Namespace(ns).Label("app", "web").Label("tier", "back").Obj(),
		builders.MakePod("debug").Namespace(ns).Label("app", "web").Label("tier", "front").Label("debug", "").Obj())
	rs := builders.MakeReplicaSet("web", 2).Namespace(ns).
		Requirement("tier", metav1.LabelSelectorOpIn, "front", "edge").
		Requirement("debug", metav1.LabelSelectorOpDoesNotExist).
		Template(func(p *corev1.PodTemplateSpec) { p.Labels["tier"] = "edge" }).Obj()
	testEnv.Create(t, rs)
	pods := eventuallyPods(t, rs, 2)
	if !slices.ContainsFunc(pods, func(p keelsonv1.Pod) bool { return p.Name == "front" }) {
		t.Error("the Pod that was there was not adopted")
	}
	env.Eventually(t, func() string {
		testEnv.Get(t, rs)
		want := keelsonv1.WorkloadSummary{Containers: "main", Images: "test.invalid/main:1", Selector: "app=web,!debug,tier in (edge,front)"}
		return cmp.Diff(want, rs.Status.Summary)
	})
}

func TestTerminatingPodsAreCounted(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	rs := builders.MakeReplicaSet("web", 2).Namespace(ns).
		Template(func(p *corev1.PodTemplateSpec) { p.Finalizers = []string{"test.keelson.dev/running"} }).Obj()
	testEnv.Create(t, rs)
	eventuallyPods(t, rs, 2)
	testEnv.Get(t, rs)
	before := rs.DeepCopy()
	rs.Spec.Replicas = new(int32(0))
	testEnv.Patch(t, rs, before)
	counts := func(active, terminating int32) {
		t.Helper()
		env.Eventually(t, func() string {
			testEnv.Get(t, rs)
			if n := rs.Status.TerminatingReplicas; rs.Status.Replicas != active || n == nil || *n != terminating {
				return fmt.Sprintf("status %+v, want %d active and %d terminating", rs.Status, active, terminating)
			}
			return ""
		})
	}
	counts(0, 2)
	for _, pod := range podsOf(t, rs) {
		was := pod.DeepCopy()
		pod.Finalizers = nil
		testEnv.Patch(t, &pod, was)
	}
	counts(0, 0)
}

// The Pods of all ReplicaSets of one Deployment count as one crowd (KEP-2185): of two
// alike Pods the one goes whose node has more of them.
func TestVictimsAreChosenAmongSiblings(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	deployment := builders.MakeDeployment("web", 1).Namespace(ns).Obj()
	testEnv.Create(t, deployment)
	sibling := func(name string, replicas int32) *appsv1.ReplicaSet {
		rs := builders.MakeReplicaSet(name, replicas).Namespace(ns).Obj()
		rs.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(deployment, appsv1.GroupVersion.WithKind("Deployment"))}
		return rs
	}
	older, newer := sibling("older", 2), sibling("newer", 2)
	bound := func(name, app, node string) *keelsonv1.Pod {
		return builders.MakePod(name).Namespace(ns).Label("app", app).Node(node).Obj()
	}
	testEnv.Create(t, bound("crowded", "older", "a"), bound("lonely", "older", "b"), bound("x", "newer", "a"), bound("y", "newer", "a"))
	testEnv.Create(t, newer, older)
	eventuallyPods(t, newer, 2)
	eventuallyPods(t, older, 2)
	testEnv.Get(t, older)
	before := older.DeepCopy()
	older.Spec.Replicas = new(int32(1))
	testEnv.Patch(t, older, before)
	if left := eventuallyPods(t, older, 1); left[0].Name != "lonely" {
		t.Errorf("%s stays, want lonely", left[0].Name)
	}
}

func TestTwoOwnersWithOneSelectorSaySo(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	first, second := builders.MakeReplicaSet("web", 2).Namespace(ns).Obj(), builders.MakeReplicaSet("web", 2).Namespace(ns).Obj()
	second.Name = "twin"
	other := builders.MakeReplicaSet("other", 1).Namespace(ns).Obj()
	testEnv.Create(t, first, second, other)
	shares := func(rs *appsv1.ReplicaSet, with string) {
		t.Helper()
		env.Eventually(t, func() string {
			testEnv.Get(t, rs)
			for _, c := range rs.Status.Conditions {
				if c.Type == "SelectorShared" {
					if with != "" && strings.Contains(c.Message, "also that of "+with+":") {
						return ""
					}
					return fmt.Sprintf("%s: %+v", rs.Name, c)
				}
			}
			if with != "" {
				return rs.Name + " has no condition"
			}
			return ""
		})
	}
	shares(first, "twin")
	shares(second, "web")
	shares(other, "")
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		about := map[string]bool{}
		for _, e := range list.Items {
			if e.Reason == "SelectorShared" {
				about[e.Regarding.Name] = true
			}
		}
		if len(about) != 2 {
			return fmt.Sprintf("events about %v", about)
		}
		return ""
	})

	// They do not fight: each has its own, and keeps them.
	names := func(rs *appsv1.ReplicaSet) (out []string) {
		for _, pod := range eventuallyPods(t, rs, 2) {
			out = append(out, pod.Name)
		}
		return out
	}
	before := [][]string{names(first), names(second)}
	env.Always(t, env.Settled/100, func() string { return cmp.Diff(before, [][]string{names(first), names(second)}) })

	if err := testEnv.Client.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	shares(first, "")
}

func TestTwoReplicationControllersWithOneSelectorSaySo(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	first := builders.MakeReplicationController("web", 1).Namespace(ns).Obj()
	second := builders.MakeReplicationController("twin", 1).Namespace(ns).Selector(map[string]string{"app": "web"}).TemplateLabel("app", "web").Obj()
	testEnv.Create(t, first, second)
	for _, rc := range []*keelsonv1.ReplicationController{first, second} {
		env.Eventually(t, func() string {
			if testEnv.Get(t, rc); len(rc.Status.Conditions) != 1 || rc.Status.Conditions[0].Type != "SelectorShared" {
				return fmt.Sprintf("conditions of %s: %+v", rc.Name, rc.Status.Conditions)
			}
			return ""
		})
	}
}

// A ReplicationController and a ReplicaSet with one selector are no better off than two of
// a kind.
func TestOwnersOfTwoKindsWithOneSelectorSaySo(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("old", 1).Namespace(ns).Selector(map[string]string{"app": "web"}).TemplateLabel("app", "web").Obj()
	rs := builders.MakeReplicaSet("web", 1).Namespace(ns).Obj()
	testEnv.Create(t, rc, rs)
	says := func(owner client.Object, message func() []string, want string) {
		t.Helper()
		env.Eventually(t, func() string {
			testEnv.Get(t, owner)
			got := message()
			if want == "" && len(got) == 0 || want != "" && len(got) == 1 && strings.Contains(got[0], want) {
				return ""
			}
			return fmt.Sprintf("%s says %q, want %q", owner.GetName(), got, want)
		})
	}
	ofRC := func() (messages []string) {
		for _, c := range rc.Status.Conditions {
			messages = append(messages, string(c.Type)+": "+c.Message)
		}
		return messages
	}
	ofRS := func() (messages []string) {
		for _, c := range rs.Status.Conditions {
			messages = append(messages, string(c.Type)+": "+c.Message)
		}
		return messages
	}
	says(rc, ofRC, "SelectorShared: The selector is also that of ReplicaSet web:")
	says(rs, ofRS, "SelectorShared: The selector is also that of ReplicationController old:")
	if err := testEnv.Client.Delete(t.Context(), rc); err != nil {
		t.Fatal(err)
	}
	says(rs, ofRS, "")
}
