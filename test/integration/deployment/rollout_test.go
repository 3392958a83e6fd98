package deployment

import (
	"fmt"
	"strings"
	"testing"
	"time"

	upstreamappsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/google/go-cmp/cmp"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func TestRollOutAndBack(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	d := builders.MakeDeployment("web", 3).Namespace(ns).Bounds(1, 1).Spec(image(works + "1")).Obj()
	d.Annotations = map[string]string{"team": "blue"}
	testEnv.Create(t, d)
	eventuallyComplete(t, d)

	first := setsOf(t, ns)[0]
	hash := first.Labels["pod-template-hash"]
	if first.Name != "web-"+hash || first.Spec.Selector.MatchLabels["pod-template-hash"] != hash || !metav1.IsControlledBy(&first, d) {
		t.Errorf("ReplicaSet %s, labels %v, selector %v", first.Name, first.Labels, first.Spec.Selector)
	}
	if first.Annotations["team"] != "blue" || first.Annotations["deployment.kubernetes.io/max-replicas"] != "4" {
		t.Errorf("annotations %v", first.Annotations)
	}
	want := appsv1.DeploymentSummary{Ready: "3/3", UpToDate: 3, Available: 3, Containers: "main", Images: works + "1", Selector: "app=web"}
	if diff := cmp.Diff(want, d.Status.Summary); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}

	edit(t, d, image(works+"2"))
	eventuallyComplete(t, d)
	if got := sizes(t, ns); got != "1:0/0 2:3/3" || revision(d) != "2" {
		t.Errorf("sets %q, revision %s", got, revision(d))
	}
	second := setsOf(t, ns)[1]
	scaling := []string{
		"Scaled up replica set " + first.Name + " from 0 to 3",
		"Scaled up replica set " + second.Name + " from 0 to 1",
		"Scaled down replica set " + first.Name + " from 3 to 2",
	}
	env.Eventually(t, func() string {
		got := notes(t, ns, "ScalingReplicaSet")
		return cmp.Diff(scaling, got[:min(len(got), len(scaling))])
	})

	// Back is forward to an old template, which kubectl rollout undo copies.
	edit(t, d, image(works+"1"))
	eventuallyComplete(t, d)
	env.Eventually(t, func() string {
		if got := sizes(t, ns); got != "2:0/0 3:3/3" {
			return "sets " + got
		}
		return ""
	})
	if back := setsOf(t, ns)[1]; back.UID != first.UID || back.Annotations["deployment.kubernetes.io/revision-history"] != "1" {
		t.Errorf("rolled back to %s with %v, want the first set", back.Name, back.Annotations)
	}
}

func TestNothingIsWrittenWhenNothingHappens(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	d := builders.MakeDeployment("web", 2).Namespace(ns).Spec(image(works + "1")).Obj()
	testEnv.Create(t, d)
	eventuallyComplete(t, d)
	versions := func() (out []string) {
		get(t, d)
		for _, rs := range setsOf(t, ns) {
			out = append(out, rs.ResourceVersion)
		}
		return append(out, d.ResourceVersion)
	}
	before := versions()
	env.Always(t, time.Second, func() string { return cmp.Diff(before, versions()) })
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	d := builders.MakeDeployment("web", 2).Namespace(ns).Recreate().Spec(image(works + "1")).Obj()
	d.Spec.Template.Finalizers = []string{"test.keelson.dev/running"}
	testEnv.Create(t, d)
	eventuallyComplete(t, d)
	edit(t, d, image(works+"2"))
	env.Eventually(t, func() string {
		get(t, d)
		if n := d.Status.TerminatingReplicas; n == nil || *n != 2 {
			return fmt.Sprintf("status %+v, want 2 Pods that are ending", d.Status)
		}
		return ""
	})
	end := func(n int) {
		for _, pod := range pods(t, ns)[:n] {
			before := pod.DeepCopy()
			pod.Finalizers = nil
			if err := testEnv.Client.Patch(t.Context(), &pod, client.MergeFrom(before)); err != nil {
				t.Fatal(err)
			}
		}
	}
	alone := func() string {
		if sets := setsOf(t, ns); len(sets) != 1 {
			return "a new ReplicaSet while an old Pod is still running"
		}
		return ""
	}
	env.Always(t, 300*time.Millisecond, alone)
	end(1)
	env.Always(t, 300*time.Millisecond, alone)
	end(1)
	eventuallyComplete(t, d)
	for _, pod := range pods(t, ns) {
		before := pod.DeepCopy()
		pod.Finalizers = nil
		if err := testEnv.Client.Patch(t.Context(), &pod, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheDeadlineIsReported(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	d := builders.MakeDeployment("web", 1).Namespace(ns).Spec(image(broken + "1")).Obj()
	d.Spec.ProgressDeadlineSeconds = new(int32(1))
	testEnv.Create(t, d)
	env.Eventually(t, func() string {
		get(t, d)
		c := condition(d, upstreamappsv1.DeploymentProgressing)
		want := fmt.Sprintf("ReplicaSet %q has timed out progressing.", setsName(t, ns))
		if c.Reason != "ProgressDeadlineExceeded" || c.Status != "False" || c.Message != want {
			return fmt.Sprintf("condition %+v", c)
		}
		return ""
	})
}

func setsName(t *testing.T, ns string) string {
	t.Helper()
	if sets := setsOf(t, ns); len(sets) > 0 {
		return sets[0].Name
	}
	return ""
}

func TestReplicaSetsAreAdoptedAndReleased(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	orphan := builders.MakeReplicaSet("web", 1).Namespace(ns).Obj()
	orphan.Spec.Template.Spec.Containers[0].Image = works + "1"
	testEnv.Create(t, orphan)
	d := builders.MakeDeployment("web", 2).Namespace(ns).Spec(image(works + "1")).Obj()
	testEnv.Create(t, d)
	eventuallyComplete(t, d)
	if get(t, orphan); !metav1.IsControlledBy(orphan, d) || *orphan.Spec.Replicas != 2 || len(setsOf(t, ns)) != 1 {
		t.Errorf("owners %v, size %d, %d sets: want the orphan adopted and scaled", orphan.OwnerReferences, *orphan.Spec.Replicas, len(setsOf(t, ns)))
	}

	before := orphan.DeepCopy()
	orphan.Labels = map[string]string{"app": "other"}
	if err := testEnv.Client.Patch(t.Context(), orphan, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	env.Eventually(t, func() string {
		if get(t, orphan); len(orphan.OwnerReferences) != 0 {
			return "not released"
		}
		if n := len(setsOf(t, ns)); n != 2 {
			return fmt.Sprintf("%d sets, want a new one", n)
		}
		return ""
	})
}

func TestATakenNameIsCounted(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	where, elsewhere := testEnv.Namespace(t), testEnv.Namespace(t)
	first := builders.MakeDeployment("web", 1).Namespace(elsewhere).Spec(image(works + "1")).Obj()
	testEnv.Create(t, first)
	eventuallyComplete(t, first)
	name := setsName(t, elsewhere)

	taken := builders.MakeReplicaSet("other", 0).Namespace(where).Obj()
	taken.Name = name
	testEnv.Create(t, taken)
	d := builders.MakeDeployment("web", 1).Namespace(where).Spec(image(works + "1")).Obj()
	testEnv.Create(t, d)
	eventuallyComplete(t, d)
	if d.Status.CollisionCount == nil || *d.Status.CollisionCount != 1 {
		t.Errorf("collisionCount %v, want 1", d.Status.CollisionCount)
	}
	for _, rs := range setsOf(t, where) {
		if metav1.IsControlledBy(&rs, d) && rs.Name == name {
			t.Errorf("%s belongs to somebody else", name)
		}
	}
}

func TestASpecThatCannotBeServed(t *testing.T) {
	testEnv.StartManager(t, addControllers)
	ns := testEnv.Namespace(t)
	wrong := builders.MakeDeployment("wrong", 1).Namespace(ns).Obj()
	wrong.Spec.Template.Labels = map[string]string{"app": "other"}
	testEnv.Create(t, wrong)
	all := builders.MakeDeployment("all", 1).Namespace(ns).Obj()
	all.Spec.Selector = &metav1.LabelSelector{}
	testEnv.Create(t, all)
	for d, want := range map[*appsv1.Deployment]string{wrong: "do not match spec.selector", all: "A non-empty selector is required."} {
		env.Eventually(t, func() string {
			get(t, d)
			c := condition(d, upstreamappsv1.DeploymentReplicaFailure)
			if c.Reason != "InvalidSpec" || !strings.Contains(c.Message, want) || d.Status.ObservedGeneration != d.Generation {
				return fmt.Sprintf("status of %s: %+v", d.Name, d.Status)
			}
			return ""
		})
	}
	env.Eventually(t, func() string {
		if len(notes(t, ns, "SelectingAll")) != 1 {
			return "no event SelectingAll"
		}
		return ""
	})
	if n := len(setsOf(t, ns)); n != 0 {
		t.Errorf("%d ReplicaSets", n)
	}
	edit(t, wrong, func(s *upstreamappsv1.DeploymentSpec) { s.Template.Labels = map[string]string{"app": "wrong"} })
	edit(t, wrong, image(works+"1"))
	eventuallyComplete(t, wrong)
	if c := condition(wrong, upstreamappsv1.DeploymentReplicaFailure); c.Type != "" {
		t.Errorf("still %+v", c)
	}
}
