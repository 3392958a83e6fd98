// Package scheduler_test runs the scheduler against a real API server.
package scheduler_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func start(t *testing.T) {
	t.Helper()
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return scheduler.Add(mgr, scheduler.Options{}) })
}

func create[T client.Object](t *testing.T, o T) T {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), o); err != nil {
		t.Fatalf("create %T %s: %v", o, o.GetName(), err)
	}
	if p, ok := any(o).(*keelsonv1.Pod); ok {
		// One that still waits would take the place of the next test's.
		t.Cleanup(func() { remove(t, p) })
	}
	return o
}

// remove ends a Pod at once.
func remove(t *testing.T, p *keelsonv1.Pod) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	if err := testEnv.Client.Delete(ctx, p); client.IgnoreNotFound(err) != nil {
		t.Error(err)
	}
	release := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
	if err := testEnv.Client.Patch(ctx, p, release); client.IgnoreNotFound(err) != nil {
		t.Error(err)
	}
}

// node makes a Node with that much CPU and room for pods, and takes it away again.
func node(t *testing.T, name, cpu, pods string, change ...func(*keelsonv1.Node)) *keelsonv1.Node {
	t.Helper()
	n := &keelsonv1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, c := range change {
		c(n)
	}
	create(t, n)
	t.Cleanup(func() {
		if err := testEnv.Client.Delete(context.WithoutCancel(t.Context()), n); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods: resource.MustParse(pods),
	}
	if err := testEnv.Client.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n
}

func pod(ns, name, cpu string) *keelsonv1.Pod {
	p := builders.MakePod(name).Namespace(ns).Obj()
	p.Spec.SchedulerName = keelsonv1.DefaultSchedulerName
	if cpu != "" {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
	}
	return p
}

func read(t *testing.T, p *keelsonv1.Pod) *keelsonv1.Pod {
	t.Helper()
	fresh := &keelsonv1.Pod{}
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(p), fresh); err != nil {
		t.Fatal(err)
	}
	return fresh
}

func becomesBound(t *testing.T, p *keelsonv1.Pod, want string) *keelsonv1.Pod {
	t.Helper()
	var fresh *keelsonv1.Pod
	env.Eventually(t, func() string {
		fresh = read(t, p)
		if fresh.Spec.NodeName == "" || want != "" && fresh.Spec.NodeName != want {
			return fmt.Sprintf("Pod is on %q, want %q; conditions %v", fresh.Spec.NodeName, want, fresh.Status.Conditions)
		}
		return ""
	})
	return fresh
}

func becomesUnschedulable(t *testing.T, p *keelsonv1.Pod, message string) {
	t.Helper()
	env.Eventually(t, func() string {
		fresh := read(t, p)
		for _, c := range fresh.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse &&
				c.Reason == corev1.PodReasonUnschedulable && c.Message == message {
				return ""
			}
		}
		return fmt.Sprintf("conditions are %v, want %q", fresh.Status.Conditions, message)
	})
}

func TestBindingSetsNodeAndFinalizerAndTellsSo(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "bind-1", "4", "10")

	bound := becomesBound(t, create(t, pod(ns, "web", "1")), "bind-1")

	if !slices.Contains(bound.Finalizers, keelsonv1.PodFinalizer) {
		t.Errorf("finalizers are %v, want %s among them", bound.Finalizers, keelsonv1.PodFinalizer)
	}
	eventAppears(t, ns, "Scheduled", "Successfully assigned "+ns+"/web to bind-1")
}

// TestBindingEndsTheTrackingOfFields: the record of who set which field goes with the
// binding, begins again with the first apply, and stays where somebody has applied before.
func TestBindingEndsTheTrackingOfFields(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	label := func(name, value string, options ...client.ApplyOption) error {
		apply := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"labels": map[string]any{"by": value}}}}
		apply.SetGroupVersionKind(keelsonv1.GroupVersion.WithKind("Pod"))
		apply.SetNamespace(ns)
		apply.SetName(name)
		return testEnv.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(apply), options...)
	}
	byKubectl := pod(ns, "kubectl", "1")
	byKubectl.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}"}
	create(t, byKubectl)
	made, applied := create(t, pod(ns, "made", "1")), create(t, pod(ns, "applied", "1"))
	if err := label("applied", "mesh", client.FieldOwner("mesh")); err != nil {
		t.Fatal(err)
	}
	node(t, "track-1", "4", "10")

	managers := func(p *keelsonv1.Pod) string {
		var names []string
		for _, e := range p.ManagedFields {
			names = append(names, e.Manager)
		}
		return strings.Join(names, " ")
	}
	if got := managers(becomesBound(t, byKubectl, "track-1")); got == "" {
		t.Error("a Pod that kubectl applied has no managedFields any more")
	}
	if got := managers(becomesBound(t, applied, "track-1")); !strings.Contains(got, "mesh") {
		t.Errorf("managers are %q, want the one that applied among them", got)
	}
	if got := managers(becomesBound(t, made, "track-1")); got != "" {
		t.Errorf("managers of a Pod that nobody applied are %q, want none", got)
	}
	if err := label("made", "mesh", client.FieldOwner("mesh")); err != nil {
		t.Fatal(err)
	}
	if err := label("made", "other", client.FieldOwner("other")); !apierrors.IsConflict(err) {
		t.Errorf("another's apply: %v, want a conflict", err)
	}
	if got := managers(read(t, made)); !strings.Contains(got, "mesh") || !strings.Contains(got, "before-first-apply") {
		t.Errorf("managers after an apply are %q", got)
	}
}

func eventAppears(t *testing.T, ns, reason, note string) {
	t.Helper()
	env.Eventually(t, func() string {
		events := &eventsv1.EventList{}
		if err := testEnv.Client.List(t.Context(), events, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
		var seen []string
		for _, e := range events.Items {
			if e.Reason == reason && e.Note == note && e.Regarding.APIVersion == "core.keelson.dev/v1" {
				return ""
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return "events are " + strings.Join(seen, "; ")
	})
}

func TestPodThatFitsNowhereSaysWhyAndIsPlacedWhenANodeComes(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "full-1", "1", "10")
	node(t, "full-2", "1", "10", func(n *keelsonv1.Node) { n.Spec.Unschedulable = true })
	node(t, "full-3", "8", "10", func(n *keelsonv1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectNoSchedule}}
	})

	big := create(t, pod(ns, "big", "2"))
	const why = "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
	becomesUnschedulable(t, big, why)
	eventAppears(t, ns, "FailedScheduling", why)
	if got := read(t, big).Status.Summary.Status; got != "Pending" {
		t.Errorf("summary says %q, want Pending", got)
	}

	node(t, "full-4", "4", "10")
	becomesBound(t, big, "full-4")
}

func TestWaitingPodTakesThePlaceOfOneThatGoes(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "swap-1", "1", "10")
	first := becomesBound(t, create(t, pod(ns, "first", "1")), "swap-1")
	second := create(t, pod(ns, "second", "1"))
	becomesUnschedulable(t, second, "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.")

	if err := testEnv.Client.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	// Marked as deleted it still holds its place: its containers run.
	env.Always(t, time.Second, func() string {
		if on := read(t, second).Spec.NodeName; on != "" {
			return "the second Pod was placed on " + on + " before the first had ended"
		}
		return ""
	})
	fresh := read(t, first)
	fresh.Finalizers = nil
	if err := testEnv.Client.Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	becomesBound(t, second, "swap-1")
}

func TestNodeSelectorFollowsALabelSetLater(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	n := node(t, "label-1", "4", "10")
	node(t, "label-2", "4", "10")
	picky := pod(ns, "picky", "")
	picky.Spec.NodeSelector = map[string]string{"env": "test"}
	create(t, picky)
	becomesUnschedulable(t, picky, "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")

	n.Labels = map[string]string{"env": "test"}
	if err := testEnv.Client.Patch(t.Context(), n, client.Merge); err != nil {
		t.Fatal(err)
	}
	becomesBound(t, picky, "label-1")
}

func TestWithoutNodesThePodSaysSo(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	becomesUnschedulable(t, create(t, pod(ns, "lonely", "")), "no nodes available to schedule pods")
}

func TestPodsOfOtherSchedulersAreLeftAlone(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "other-1", "4", "10")
	foreign := pod(ns, "foreign", "")
	foreign.Spec.SchedulerName = "somebody-else"
	create(t, foreign)
	becomesBound(t, create(t, pod(ns, "ours", "")), "other-1")

	env.Always(t, time.Second, func() string {
		if on := read(t, foreign).Spec.NodeName; on != "" {
			return "a Pod of another scheduler was placed on " + on
		}
		return ""
	})
}

// Two schedulers at once, as for a moment between two leaders: no Pod is bound
// twice, and none is forgotten. Both may fill a Node beyond its room, which only
// the Node's agent could refuse; the test therefore gives room enough.
func TestTwoSchedulersBindEachPodOnce(t *testing.T) {
	start(t)
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "two-1", "100", "1000")
	node(t, "two-2", "100", "1000")
	var pods []*keelsonv1.Pod
	for i := range 60 {
		pods = append(pods, create(t, pod(ns, fmt.Sprintf("p%02d", i), "100m")))
	}
	for _, p := range pods {
		bound := becomesBound(t, p, "")
		// Bound once: the binding is the only change of the spec since creation.
		if bound.Generation != 2 {
			t.Errorf("Pod %s has generation %d, want 2", p.Name, bound.Generation)
		}
	}
}

func TestRoomIsNeverGivenTwice(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "room-1", "2", "100")
	node(t, "room-2", "2", "100")
	for i := range 30 {
		create(t, pod(ns, fmt.Sprintf("p%02d", i), "500m"))
	}
	var used map[string]int
	count := func() string {
		pods := &keelsonv1.PodList{}
		if err := testEnv.Client.List(t.Context(), pods, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
		used = map[string]int{}
		for _, p := range pods.Items {
			used[p.Spec.NodeName]++
		}
		if used["room-1"] > 4 || used["room-2"] > 4 {
			t.Fatalf("too many Pods on a node: %v", used)
		}
		return ""
	}
	env.Eventually(t, func() string {
		if complaint := count(); complaint != "" {
			return complaint
		}
		if used["room-1"] != 4 || used["room-2"] != 4 {
			return fmt.Sprintf("Pods by node: %v", used)
		}
		return ""
	})
	env.Always(t, 2*time.Second, count)
}
