package replicas

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
	"github.com/keelson-dev/keelson/test/builders"
)

const apiVersion = "core.keelson.dev/v1"

var (
	rcKind = keelsonv1.GroupVersion.WithKind("ReplicationController")
	now    = time.Unix(1_000_000, 0)
)

func owner(replicas int32) Owner {
	rc := builders.MakeReplicationController("web", replicas).UID("rc-uid").Obj()
	return Owner{
		Owner: podcontrol.Owner{Object: rc, Kind: rcKind}, Replicas: replicas, Template: rc.Spec.Template,
		Selector: labels.SelectorFromSet(rc.Spec.Selector),
	}
}

func deletingOwner(replicas int32) Owner {
	o := owner(replicas)
	o.Object.SetDeletionTimestamp(new(metav1.NewTime(now)))
	return o
}

// mine is a Pod of the owner, orphan one that nobody has, theirs one of another owner.
func mine(name string) *builders.PodBuilder {
	return unowned(name).Owner(apiVersion, rcKind.Kind, "web", "rc-uid")
}

func unowned(name string) *builders.PodBuilder {
	return builders.MakePod(name).UID("uid-"+name).Label("app", "web")
}

func theirs(name string) *builders.PodBuilder {
	return unowned(name).Owner(apiVersion, rcKind.Kind, "other", "other-uid")
}

func pods(all ...*builders.PodBuilder) []*keelsonv1.Pod {
	var out []*keelsonv1.Pod
	for _, b := range all {
		out = append(out, b.Obj())
	}
	return out
}

type planned struct {
	Active, Adopt, Release, Delete []string
	Create                         int
	Reason                         string
}

func namesOf(pods []*keelsonv1.Pod) []string {
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
	}
	return names
}

func plannedOf(p Plan) planned {
	return planned{
		Active: namesOf(p.Active), Adopt: namesOf(p.Adopt), Release: namesOf(p.Release), Delete: namesOf(p.Delete),
		Create: p.Create, Reason: p.Reason,
	}
}

func TestMakePlan(t *testing.T) {
	tests := map[string]struct {
		owner Owner
		pods  []*keelsonv1.Pod
		want  planned
	}{
		"no Pods: all are created": {
			owner: owner(3), want: planned{Create: 3, Reason: "Too few replicas: 0 of 3"},
		},
		"the right number: nothing to do": {
			owner: owner(2), pods: pods(mine("a"), mine("b")), want: planned{Active: []string{"a", "b"}},
		},
		"finished and terminating Pods do not count": {
			owner: owner(2),
			pods:  pods(mine("a"), mine("done").Phase(corev1.PodSucceeded), mine("bad").Phase(corev1.PodFailed), mine("going").Deleting(now)),
			want:  planned{Active: []string{"a"}, Create: 1, Reason: "Too few replicas: 1 of 2"},
		},
		"an orphan that matches is adopted and counts": {
			owner: owner(2), pods: pods(mine("a"), unowned("o")),
			want: planned{Active: []string{"a", "o"}, Adopt: []string{"o"}},
		},
		"an orphan that does not match is left alone": {
			owner: owner(1), pods: pods(mine("a"), unowned("o").Label("app", "db")),
			want: planned{Active: []string{"a"}},
		},
		"a Pod of somebody else is left alone even if it matches": {
			owner: owner(1), pods: pods(mine("a"), theirs("t")), want: planned{Active: []string{"a"}},
		},
		"a Pod of an earlier owner with the same name is not ours": {
			owner: owner(1), pods: pods(unowned("old").Owner(apiVersion, rcKind.Kind, "web", "earlier-uid")),
			want: planned{Create: 1, Reason: "Too few replicas: 0 of 1"},
		},
		"a Pod whose labels no longer match is released and replaced": {
			owner: owner(1), pods: pods(mine("a").Label("app", "debug")),
			want: planned{Release: []string{"a"}, Create: 1, Reason: "Too few replicas: 0 of 1"},
		},
		"surplus Pods are deleted, those that run last": {
			owner: owner(1), pods: pods(mine("ready").Node("n").Ready(), mine("pending"), mine("bound").Node("n")),
			want: planned{
				Active: []string{"ready", "pending", "bound"}, Delete: []string{"pending", "bound"},
				Reason: "Too many replicas: 3 of 1",
			},
		},
		"down to zero": {
			owner: owner(0), pods: pods(mine("a")),
			want: planned{Active: []string{"a"}, Delete: []string{"a"}, Reason: "Too many replicas: 1 of 0"},
		},
		"an orphan that makes one too many is adopted and may be the victim": {
			owner: owner(1), pods: pods(mine("a").Node("n").Ready(), unowned("o")),
			want: planned{
				Active: []string{"a", "o"}, Adopt: []string{"o"}, Delete: []string{"o"},
				Reason: "Too many replicas: 2 of 1",
			},
		},
		"an owner that is being deleted changes nothing, but counts": {
			owner: deletingOwner(5), pods: pods(mine("a"), unowned("o"), mine("l").Label("app", "debug")),
			want: planned{Active: []string{"a"}},
		},
		"creation is limited": {
			owner: owner(2000), want: planned{Create: Burst, Reason: "Too few replicas: 0 of 2000"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got := MakePlan(Input{Owner: tc.owner, Pods: tc.pods, Now: now})
			if diff := cmp.Diff(tc.want, plannedOf(got)); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateNamesTheField(t *testing.T) {
	tests := map[string]struct {
		change func(*Owner)
		want   string
	}{
		"good": {change: func(*Owner) {}},
		"no template": {
			change: func(o *Owner) { o.Template = nil },
			want:   "spec.template is missing: say what Pods to create",
		},
		"nothing selected": {
			change: func(o *Owner) { o.Selector = labels.Everything() },
			want:   "spec.selector is empty and so are the template's labels: set spec.template.metadata.labels",
		},
		"the template does not match": {
			change: func(o *Owner) { o.Selector = labels.SelectorFromSet(labels.Set{"app": "db"}) },
			want:   `spec.template.metadata.labels "app=web" do not match spec.selector "app=db": every new Pod would be lost at once`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := owner(1)
			tc.change(&o)
			got := ""
			if err := o.Validate(); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("Validate() = %q, want %q", got, tc.want)
			}
		})
	}
}

// TestPlansEndAtTheWantedCount: from any Pods, plans that are executed one after the
// other reach the count, then do nothing, and never touch Pods of others.
func TestPlansEndAtTheWantedCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := owner(int32(rapid.IntRange(0, 8).Draw(t, "replicas")))
		var world []*keelsonv1.Pod
		for i := range rapid.IntRange(0, 12).Draw(t, "pods") {
			world = append(world, drawPod(t, fmt.Sprint("p", i)))
		}
		foreign := countForeign(world)
		for step := range 3 {
			p := MakePlan(Input{Owner: o, Pods: world, Now: now})
			if p.Create > 0 && len(p.Delete) > 0 {
				t.Fatal("a plan creates and deletes")
			}
			if step == 2 && (p.Create+len(p.Delete)+len(p.Adopt)+len(p.Release) > 0 || len(p.Active) != int(o.Replicas)) {
				t.Fatalf("not settled: %+v", plannedOf(p))
			}
			world = execute(&o, world, p, step)
		}
		if got := countForeign(world); got != foreign {
			t.Fatalf("%d Pods of others before, %d after", foreign, got)
		}
	})
}

func drawPod(t *rapid.T, name string) *keelsonv1.Pod {
	b := rapid.SampledFrom([]func(string) *builders.PodBuilder{mine, unowned, theirs}).Draw(t, "whose")(name)
	if rapid.Bool().Draw(t, "relabelled") {
		b = b.Label("app", "debug")
	}
	if rapid.Bool().Draw(t, "deleting") {
		b = b.Deleting(now)
	}
	return b.Phase(rapid.SampledFrom([]corev1.PodPhase{corev1.PodPending, corev1.PodRunning, corev1.PodFailed}).Draw(t, "phase")).Obj()
}

func countForeign(world []*keelsonv1.Pod) int {
	n := 0
	for _, p := range world {
		if ref := metav1.GetControllerOf(p); ref != nil && ref.UID == "other-uid" {
			n++
		}
	}
	return n
}

func execute(o *Owner, world []*keelsonv1.Pod, p Plan, step int) []*keelsonv1.Pod {
	var next []*keelsonv1.Pod
	for _, pod := range world {
		switch {
		case slices.Contains(p.Delete, pod):
		case slices.Contains(p.Adopt, pod):
			next = append(next, podcontrol.Adopted(o.Owner, pod))
		case slices.Contains(p.Release, pod):
			next = append(next, podcontrol.Released(o.Owner, pod))
		default:
			next = append(next, pod)
		}
	}
	for i := range p.Create {
		pod := podcontrol.Render(o.Owner, o.Template)
		pod.Name = fmt.Sprint("new-", step, "-", i)
		next = append(next, pod)
	}
	return next
}

func TestCount(t *testing.T) {
	active := pods(
		mine("full").Label("tier", "front").Ready(now.Add(-time.Minute)),
		mine("bare").Ready(now.Add(-4*time.Second)),
		mine("fresh").Ready(now.Add(-time.Second)),
		mine("waiting").NotReady(),
	)
	got := Count(active, map[string]string{"app": "web", "tier": "front"}, 10, now)
	want := Counts{Replicas: 4, FullyLabeled: 1, Ready: 3, Available: 1, NextAvailable: 6 * time.Second}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
