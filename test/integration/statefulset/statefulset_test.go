package statefulset

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	upstreamappsv1 "k8s.io/api/apps/v1"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/statefulset"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func addController(mgr ctrl.Manager) error { return statefulset.Add(mgr, statefulset.Options{}) }

// eventuallyNamed waits until exactly these Pods are there, and returns them.
func eventuallyNamed(t *testing.T, ns string, want ...string) (all []*keelsonv1.Pod) {
	t.Helper()
	env.Eventually(t, func() string {
		if all = testEnv.Pods(t, ns); !slices.Equal(env.Names(all), want) {
			return fmt.Sprintf("Pods %v, want %v", env.Names(all), want)
		}
		return ""
	})
	return all
}

// stays fails when other Pods than these come or go for a while.
func stays(t *testing.T, ns string, want ...string) {
	t.Helper()
	env.Always(t, 200*time.Millisecond, func() string {
		if got := env.Names(testEnv.Pods(t, ns)); !slices.Equal(got, want) {
			return fmt.Sprintf("Pods %v, want %v still", got, want)
		}
		return ""
	})
}

func eventuallyStatus(t *testing.T, set *appsv1.StatefulSet, check func(upstreamappsv1.StatefulSetStatus) string) {
	t.Helper()
	env.Eventually(t, func() string {
		fresh := set.DeepCopy()
		testEnv.Get(t, fresh)
		return check(fresh.Status.StatefulSetStatus)
	})
}

// counts checks replicas, ready, current and updated.
func counts(replicas, ready, current, updated int32) func(upstreamappsv1.StatefulSetStatus) string {
	return func(s upstreamappsv1.StatefulSetStatus) string {
		got := [4]int32{s.Replicas, s.ReadyReplicas, s.CurrentReplicas, s.UpdatedReplicas}
		if want := [4]int32{replicas, ready, current, updated}; got != want {
			return fmt.Sprintf("replicas, ready, current, updated %v, want %v", got, want)
		}
		return ""
	}
}

// started creates a StatefulSet and makes its Pods ready one after the other.
func started(t *testing.T, b *builders.StatefulSetBuilder) *appsv1.StatefulSet {
	t.Helper()
	set := b.Obj()
	testEnv.Create(t, set)
	var want []string
	for i := range *set.Spec.Replicas {
		want = append(want, fmt.Sprintf("%s-%d", set.Name, i))
		testEnv.MakeReady(t, eventuallyNamed(t, set.Namespace, want...)[i])
	}
	eventuallyStatus(t, set, counts(*set.Spec.Replicas, *set.Spec.Replicas, *set.Spec.Replicas, *set.Spec.Replicas))
	return set
}

func TestPodsComeAndGoInOrder(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	set := builders.MakeStatefulSet("web", 3).Namespace(ns).Obj()
	testEnv.Create(t, set)
	first := eventuallyNamed(t, ns, "web-0")[0]
	stays(t, ns, "web-0")
	if first.Spec.Hostname != "web-0" || first.Spec.Subdomain != "web" || !metav1.IsControlledBy(first, set) ||
		first.Labels["statefulset.kubernetes.io/pod-name"] != "web-0" || first.Labels["apps.kubernetes.io/pod-index"] != "0" ||
		first.Labels["controller-revision-hash"] != testEnv.Revisions(t, ns)[0].Name {
		t.Errorf("host name %q of %q, labels %v", first.Spec.Hostname, first.Spec.Subdomain, first.Labels)
	}
	testEnv.MakeReady(t, first)
	testEnv.MakeReady(t, eventuallyNamed(t, ns, "web-0", "web-1")[1])
	testEnv.MakeReady(t, eventuallyNamed(t, ns, "web-0", "web-1", "web-2")[2])
	eventuallyStatus(t, set, counts(3, 3, 3, 3))
	testEnv.EventuallyEvent(t, ns, "SuccessfulCreate", "Create Pod web-2 in StatefulSet web successful")
	if out := testEnv.Kubectl(t, "get", "statefulsets.apps.keelson.dev", "-n", ns, "--no-headers"); !strings.Contains(out, "3/3") {
		t.Errorf("kubectl get: %s", out)
	}

	// Down from the top, and not while a Pod that stays is sick.
	testEnv.SetPodStatus(t, testEnv.Pods(t, ns)[0], builders.MakePod("").NotReady().Obj().Status)
	testEnv.Kubectl(t, "scale", "statefulsets.apps.keelson.dev/web", "-n", ns, "--replicas=1")
	stays(t, ns, "web-0", "web-1", "web-2")
	testEnv.MakeReady(t, testEnv.Pods(t, ns)[0])
	eventuallyNamed(t, ns, "web-0")
	testEnv.EventuallyEvent(t, ns, "SuccessfulDelete", "Delete Pod web-1 in StatefulSet web successful")
	eventuallyStatus(t, set, counts(1, 1, 1, 1))
}

func TestParallelPodsDoNotWait(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeStatefulSet("web", 3).Namespace(ns).Parallel().Start(7).Obj())
	eventuallyNamed(t, ns, "web-7", "web-8", "web-9")
	testEnv.Kubectl(t, "scale", "statefulsets.apps.keelson.dev/web", "-n", ns, "--replicas=0")
	eventuallyNamed(t, ns)
}

func TestAnUpdateStopsAtThePartition(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	set := started(t, builders.MakeStatefulSet("web", 3).Namespace(ns).RollingUpdate(2, "1"))
	imageOf := func(name string) string {
		pod := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
		testEnv.Get(t, pod)
		return pod.Spec.Containers[0].Image
	}
	// replaced waits for the Pod of the new image and makes it ready.
	replaced := func(name, image string) {
		t.Helper()
		env.Eventually(t, func() string {
			for _, pod := range testEnv.Pods(t, ns) {
				if pod.Name == name && pod.Spec.Containers[0].Image == image {
					testEnv.MakeReady(t, pod)
					return ""
				}
			}
			return name + " has not been replaced"
		})
	}
	env.Change(t, &testEnv, set, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "two" })
	replaced("web-2", "two")
	eventuallyStatus(t, set, counts(3, 3, 2, 1))
	stays(t, ns, "web-0", "web-1", "web-2")
	if imageOf("web-1") == "two" {
		t.Error("web-1 is below the partition")
	}
	testEnv.Get(t, set)
	if set.Status.CurrentRevision == set.Status.UpdateRevision {
		t.Errorf("one revision %q while an update is on its way", set.Status.CurrentRevision)
	}
	// A Pod below the partition comes back as it was.
	testEnv.Delete(t, testEnv.Pods(t, ns)[0])
	replaced("web-0", "test.invalid/main:1")
	eventuallyStatus(t, set, counts(3, 3, 2, 1))

	env.Change(t, &testEnv, set, func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = new(int32(0)) })
	replaced("web-1", "two")
	replaced("web-0", "two")
	eventuallyStatus(t, set, counts(3, 3, 3, 3))
	testEnv.Get(t, set)
	if set.Status.CurrentRevision != set.Status.UpdateRevision {
		t.Errorf("revisions %q and %q after the update", set.Status.CurrentRevision, set.Status.UpdateRevision)
	}

	// Back to the first template: its revision becomes the newest.
	env.Change(t, &testEnv, set, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "test.invalid/main:1" })
	for _, name := range []string{"web-2", "web-1", "web-0"} {
		replaced(name, "test.invalid/main:1")
	}
	eventuallyStatus(t, set, counts(3, 3, 3, 3))
	if all := testEnv.Revisions(t, ns); len(all) != 2 || all[1].Revision != 3 {
		t.Errorf("revisions %+v", all)
	}
}

func TestEndedPodsComeAgain(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	started(t, builders.MakeStatefulSet("web", 2).Namespace(ns))
	old := testEnv.Pods(t, ns)[0]
	testEnv.Fail(t, old)
	env.Eventually(t, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 2 || all[0].UID == old.UID {
			return fmt.Sprintf("Pods %v, want a new web-0", env.Names(all))
		}
		return ""
	})
}

func TestATerminatingPodKeepsItsName(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	started(t, builders.MakeStatefulSet("web", 1).Namespace(ns))
	pod := testEnv.Pods(t, ns)[0]
	env.Change(t, &testEnv, pod, func(p *keelsonv1.Pod) { p.Finalizers = []string{"test.invalid/node"} })
	testEnv.Delete(t, pod)
	env.Always(t, 200*time.Millisecond, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID != pod.UID {
			return fmt.Sprintf("Pods %v", env.Names(all))
		}
		return ""
	})
	env.Change(t, &testEnv, pod, func(p *keelsonv1.Pod) { p.Finalizers = nil })
	env.Eventually(t, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || all[0].UID == pod.UID {
			return "no new web-0"
		}
		return ""
	})
}

// TestAStrangerHoldsAName: its end wakes the StatefulSet, whose retries would come up
// to a minute later.
func TestAStrangerHoldsAName(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	stranger := builders.MakePod("web-0").Namespace(ns).Label("app", "other").Obj()
	testEnv.Create(t, stranger)
	set := builders.MakeStatefulSet("web", 1).Namespace(ns).Obj()
	testEnv.Create(t, set)
	env.Always(t, 300*time.Millisecond, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || len(all[0].OwnerReferences) != 0 {
			return fmt.Sprintf("Pods %v: the stranger was taken", env.Names(all))
		}
		return ""
	})
	testEnv.Delete(t, stranger)
	env.Eventually(t, func() string {
		if all := testEnv.Pods(t, ns); len(all) != 1 || !metav1.IsControlledBy(all[0], set) {
			return "web-0 does not come"
		}
		return ""
	})
}

func TestMembershipFollowsNamesAndLabels(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	set := started(t, builders.MakeStatefulSet("web", 1).Namespace(ns))
	pod, revision := testEnv.Pods(t, ns)[0], testEnv.Revisions(t, ns)[0]

	// Orphans come back.
	env.Orphan(t, &testEnv, pod)
	env.Orphan(t, &testEnv, &revision)
	env.Eventually(t, func() string {
		testEnv.Get(t, pod)
		testEnv.Get(t, &revision)
		if !metav1.IsControlledBy(pod, set) || !metav1.IsControlledBy(&revision, set) {
			return fmt.Sprintf("owners %v and %v", pod.OwnerReferences, revision.OwnerReferences)
		}
		return ""
	})
	// A Pod with the labels and no number of this StatefulSet is none of it.
	testEnv.Create(t, builders.MakePod("web-x").Namespace(ns).Label("app", "web").Obj())
	testEnv.Create(t, builders.MakePod("web-01").Namespace(ns).Label("app", "web").Obj())
	env.Always(t, 200*time.Millisecond, func() string {
		for _, p := range testEnv.Pods(t, ns) {
			if p.Name != "web-0" && len(p.OwnerReferences) > 0 {
				return p.Name + " was adopted"
			}
		}
		return ""
	})
	// A relabelled one is let go; it holds the name until it ends.
	env.Change(t, &testEnv, pod, func(p *keelsonv1.Pod) { p.Labels["app"] = "debug" })
	env.Eventually(t, func() string {
		if testEnv.Get(t, pod); len(pod.OwnerReferences) > 0 {
			return "still owned"
		}
		return ""
	})
	testEnv.Delete(t, pod)
	env.Eventually(t, func() string {
		fresh := &keelsonv1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web-0"}}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(fresh), fresh); err != nil || !metav1.IsControlledBy(fresh, set) {
			return fmt.Sprintf("web-0 does not come: %v", err)
		}
		return ""
	})
}

func TestLostIdentityIsWrittenAgain(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	started(t, builders.MakeStatefulSet("web", 1).Namespace(ns))
	pod := testEnv.Pods(t, ns)[0]
	env.Change(t, &testEnv, pod, func(p *keelsonv1.Pod) {
		delete(p.Labels, "statefulset.kubernetes.io/pod-name")
		delete(p.Labels, "apps.kubernetes.io/pod-index")
	})
	env.Eventually(t, func() string {
		if testEnv.Get(t, pod); pod.Labels["statefulset.kubernetes.io/pod-name"] != "web-0" || pod.Labels["apps.kubernetes.io/pod-index"] != "0" {
			return fmt.Sprintf("labels %v", pod.Labels)
		}
		return ""
	})
	testEnv.EventuallyEvent(t, ns, "SuccessfulUpdate", "Update Pod web-0 in StatefulSet web successful")
}

func TestAvailableTakesMinReadySeconds(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	const minReady = 2
	set := builders.MakeStatefulSet("web", 2).Namespace(ns).MinReadySeconds(minReady).Obj()
	testEnv.Create(t, set)
	began := time.Now().Truncate(time.Second)
	testEnv.MakeReady(t, eventuallyNamed(t, ns, "web-0")...)
	eventuallyStatus(t, set, counts(1, 1, 1, 1))
	// Nothing happens to any object now: only the controller's own wake-up counts.
	eventuallyNamed(t, ns, "web-0", "web-1")
	if waited := time.Since(began); waited < minReady*time.Second {
		t.Errorf("the next Pod came after %s, want at least %d s", waited, minReady)
	}
}

// TestADeletedStatefulSetDoesNothing: the garbage collector orphans or deletes its Pods.
func TestADeletedStatefulSetDoesNothing(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	set := started(t, builders.MakeStatefulSet("web", 2).Namespace(ns))
	testEnv.Delete(t, set, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	all := testEnv.Pods(t, ns)
	env.Orphan(t, &testEnv, all[0])
	testEnv.Delete(t, all[1])
	env.Always(t, 300*time.Millisecond, func() string {
		left := testEnv.Pods(t, ns)
		if len(left) != 1 || len(left[0].OwnerReferences) != 0 {
			return fmt.Sprintf("Pods %v: adopted again or replaced", env.Names(left))
		}
		return ""
	})
	eventuallyStatus(t, set, counts(0, 0, 0, 0))
}

func TestASpecThatAdmissionNeverSaw(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	bare := builders.MakeStatefulSet("bare", 1).Namespace(ns).Obj()
	bare.Spec.Replicas = nil
	testEnv.Create(t, bare)
	eventuallyNamed(t, ns, "bare-0")
	unlike := builders.MakeStatefulSet("unlike", 1).Namespace(ns).Template(func(s *corev1.PodTemplateSpec) { s.Labels = nil }).Obj()
	testEnv.Create(t, unlike)
	testEnv.EventuallyEvent(t, ns, "InvalidSpec", "spec.template.metadata.labels: `selector` does not match template `labels`")
	stays(t, ns, "bare-0")
}

// TestTwoManagersNeverMakeTwo: the name is the lock.
func TestTwoManagersNeverMakeTwo(t *testing.T) {
	testEnv.StartManager(t, addController)
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	set := started(t, builders.MakeStatefulSet("web", 3).Namespace(ns))
	env.Change(t, &testEnv, set, func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = "two" })
	env.Eventually(t, func() string {
		done, serving := 0, 0
		for _, pod := range testEnv.Pods(t, ns) {
			switch ready := len(pod.Status.Conditions) > 0; {
			case ready:
				serving++
			default:
				testEnv.MakeReady(t, pod)
			}
			if pod.Spec.Containers[0].Image == "two" {
				done++
			}
		}
		if done != 3 || serving != 3 {
			return fmt.Sprintf("%d updated, %d serve", done, serving)
		}
		return ""
	})
	eventuallyStatus(t, set, counts(3, 3, 3, 3))
	if got := testEnv.Revisions(t, ns); len(got) != 2 {
		t.Errorf("%d revisions, want 2", len(got))
	}
}
