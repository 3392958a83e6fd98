package replication

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/replication"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func addController(mgr ctrl.Manager) error { return replication.Add(mgr, replication.Options{}) }

func TestPodsFollowTheReplicationController(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("web", 3).Namespace(ns).TemplateLabel("tier", "front").Obj()
	testEnv.Create(t, rc)

	pods := testEnv.EventuallyActive(t, ns, 3)
	for _, pod := range pods {
		if !regexp.MustCompile(`^web-[a-z0-9]{5}$`).MatchString(pod.Name) {
			t.Errorf("Pod name %q, want web- and five characters", pod.Name)
		}
		if !metav1.IsControlledBy(pod, rc) || pod.Labels["tier"] != "front" {
			t.Errorf("Pod %s: owners %v, labels %v", pod.Name, pod.OwnerReferences, pod.Labels)
		}
	}
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		if s.Replicas != 3 || s.FullyLabeledReplicas != 3 || s.ObservedGeneration != 1 || s.Summary.Selector != "app=web" {
			return fmt.Sprintf("status %+v", s)
		}
		return ""
	})

	// A deleted Pod is replaced, the others stay (RC-08).
	testEnv.Delete(t, pods[0])
	after := testEnv.EventuallyActive(t, ns, 3)
	if common := len(commonNames(pods, after)); common != 2 {
		t.Errorf("%d Pods survived the deletion of one, want 2", common)
	}

	// Scaling goes through the scale subresource (SCL-01, SCL-02, SCL-04).
	kubectl(t, "scale", "krc/web", "-n", ns, "--replicas=5")
	testEnv.EventuallyActive(t, ns, 5)
	kubectl(t, "scale", "krc/web", "-n", ns, "--current-replicas=5", "--replicas=1")
	testEnv.EventuallyActive(t, ns, 1)
	kubectl(t, "scale", "krc/web", "-n", ns, "--replicas=0")
	testEnv.EventuallyActive(t, ns, 0)
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		if s.Replicas != 0 {
			return fmt.Sprintf("status.replicas %d", s.Replicas)
		}
		return ""
	})
	eventuallyEvents(t, ns, "Created pod: ", 3+1+2)
	eventuallyEvents(t, ns, "Deleted pod: ", 4+1)
}

// TestAStatusThatOthersWroteIsPutRight: nothing else changes that would remind the
// controller.
func TestAStatusThatOthersWroteIsPutRight(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("web", 2).Namespace(ns).Obj()
	testEnv.Create(t, rc)
	testEnv.EventuallyActive(t, ns, 2)
	two := func(s keelsonv1.ReplicationControllerStatus) string {
		if s.Replicas != 2 {
			return fmt.Sprintf("status.replicas %d, want 2", s.Replicas)
		}
		return ""
	}
	eventuallyStatus(t, rc, two)
	testEnv.Get(t, rc)
	before := rc.DeepCopy()
	rc.Status.Replicas = 7
	if err := testEnv.Client.Status().Patch(t.Context(), rc, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventuallyStatus(t, rc, two)
}

func TestScaleWithAWrongPreconditionChangesNothing(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	testEnv.Create(t, builders.MakeReplicationController("web", 1).Namespace(ns).Obj())
	testEnv.EventuallyActive(t, ns, 1)
	out, err := runKubectl("scale", "krc/web", "-n", ns, "--current-replicas=2", "--replicas=4")
	if err == nil || !strings.Contains(out, "Expected replicas to be 2, was 1") {
		t.Errorf("kubectl scale: %v, %s", err, out)
	}
	env.Always(t, 300*time.Millisecond, func() string {
		if n := len(testEnv.ActivePods(t, ns)); n != 1 {
			return fmt.Sprintf("%d Pods, want 1", n)
		}
		return ""
	})
}

func TestMembershipFollowsLabels(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)

	// A Pod that was there before counts (RC-17).
	old := builders.MakePod("old").Namespace(ns).Label("app", "web").Obj()
	testEnv.Create(t, old)
	rc := builders.MakeReplicationController("web", 2).Namespace(ns).Obj()
	testEnv.Create(t, rc)
	pods := testEnv.EventuallyActive(t, ns, 2)
	if !slices.ContainsFunc(pods, func(p *keelsonv1.Pod) bool { return p.Name == "old" && metav1.IsControlledBy(p, rc) }) {
		t.Errorf("the existing Pod was not adopted: %v", env.Names(pods))
	}

	// A relabelled Pod is released, keeps running, and is replaced (RC-13).
	relabel(t, old, "debug")
	testEnv.EventuallyActive(t, ns, 3)
	env.Eventually(t, func() string {
		if testEnv.Get(t, old); metav1.GetControllerOf(old) != nil || old.DeletionTimestamp != nil {
			return fmt.Sprintf("released Pod: owners %v, deleted %v", old.OwnerReferences, old.DeletionTimestamp)
		}
		return ""
	})

	// Labelled back, it makes one too many: one of the three goes.
	relabel(t, old, "web")
	testEnv.EventuallyActive(t, ns, 2)

	// A Pod made by hand with the labels of a full controller is removed or displaces
	// another one (RC-15).
	testEnv.Create(t, builders.MakePod("extra").Namespace(ns).Label("app", "web").Obj())
	env.Eventually(t, func() string {
		owned := 0
		for _, pod := range testEnv.ActivePods(t, ns) {
			if metav1.IsControlledBy(pod, rc) {
				owned++
			}
		}
		if total := len(testEnv.ActivePods(t, ns)); total != 2 || owned != 2 {
			return fmt.Sprintf("%d Pods, %d owned; want 2 and 2", total, owned)
		}
		return ""
	})
}

func TestBoundPodsAreReplacedWhileTheyTerminate(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	rc := builders.MakeReplicationController("web", 1).Namespace(ns).Template(func(template *corev1.PodTemplateSpec) {
		template.Spec.NodeName = "n1"
	}).Obj()
	testEnv.Create(t, rc)
	pod := testEnv.EventuallyActive(t, ns, 1)[0]
	if !slices.Contains(pod.Finalizers, keelsonv1.PodFinalizer) {
		t.Fatalf("a Pod that is created bound has finalizers %v", pod.Finalizers)
	}
	testEnv.Delete(t, pod)
	replacement := testEnv.EventuallyActive(t, ns, 1)[0]
	if replacement.UID == pod.UID {
		t.Error("the terminating Pod still counts")
	}
	if testEnv.Get(t, pod); pod.DeletionTimestamp == nil {
		t.Error("the deleted Pod is gone or not terminating: its agent has not released it")
	}
}

func TestARefusedPodIsReportedAndRetried(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	// The CRD refuses this Pod, as a quota or a policy could: its template is not
	// validated as strictly because labels of a template are free text to the schema.
	rc := builders.MakeReplicationController("web", 500).Namespace(ns).TemplateLabel("bad", "not a label value!").Obj()
	testEnv.Create(t, rc)
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		if len(s.Conditions) != 1 || s.Conditions[0].Type != corev1.ReplicationControllerReplicaFailure ||
			s.Conditions[0].Reason != "FailedCreate" || !strings.Contains(s.Conditions[0].Message, "not a label value!") {
			return fmt.Sprintf("conditions %+v", s.Conditions)
		}
		return ""
	})
	// Every attempt is about another version of the owner, and another name of a Pod: one
	// event for each of the first nine, and one that counts from there.
	for attempts := int32(1); attempts <= 12; attempts++ {
		eventuallyAttempts(t, ns, attempts)
		testEnv.Get(t, rc)
		before := rc.DeepCopy()
		rc.Spec.Replicas = new(500 - attempts)
		testEnv.Patch(t, rc, before)
	}

	testEnv.Get(t, rc)
	before := rc.DeepCopy()
	rc.Spec.Replicas = new(int32(2))
	delete(rc.Spec.Template.Labels, "bad")
	testEnv.Patch(t, rc, before)
	testEnv.EventuallyActive(t, ns, 2)
	eventuallyStatus(t, rc, func(s keelsonv1.ReplicationControllerStatus) string {
		if len(s.Conditions) != 0 {
			return fmt.Sprintf("conditions %+v", s.Conditions)
		}
		return ""
	})
}

// Helpers.

func relabel(t *testing.T, pod *keelsonv1.Pod, app string) {
	t.Helper()
	testEnv.Get(t, pod)
	before := pod.DeepCopy()
	pod.Labels["app"] = app
	testEnv.Patch(t, pod, before)
}

func eventuallyStatus(t *testing.T, rc *keelsonv1.ReplicationController, check func(keelsonv1.ReplicationControllerStatus) string) {
	t.Helper()
	env.Eventually(t, func() string {
		fresh := rc.DeepCopy()
		testEnv.Get(t, fresh)
		return check(fresh.Status)
	})
}

// eventuallyEvents waits for at least want events whose note begins with prefix,
// counting repetitions.
func eventuallyEvents(t *testing.T, ns, prefix string, want int) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatalf("failed to list events: %v", err)
		}
		found := map[string]bool{}
		for _, e := range list.Items {
			if strings.HasPrefix(e.Note, prefix) {
				found[e.Name] = true
			}
		}
		if len(found) < want {
			return fmt.Sprintf("%d events %q, want %d", len(found), prefix, want)
		}
		return ""
	})
}

// eventuallyAttempts waits for at least want refused Pods, which must not take more than
// ten events.
func eventuallyAttempts(t *testing.T, ns string, want int32) {
	t.Helper()
	env.Eventually(t, func() string {
		var list corev1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			t.Fatalf("failed to list events: %v", err)
		}
		written, attempts := 0, int32(0)
		for _, e := range list.Items {
			if e.Reason == "FailedCreate" {
				written++
				attempts += e.Count
			}
		}
		if written > 10 {
			t.Fatalf("%d events for %d attempts", written, attempts)
		}
		if attempts < want {
			return fmt.Sprintf("%d attempts in %d events, want %d", attempts, written, want)
		}
		return ""
	})
}

func commonNames(a, b []*keelsonv1.Pod) []string {
	set := map[string]bool{}
	for _, name := range env.Names(a) {
		set[name] = true
	}
	maps.DeleteFunc(set, func(name string, _ bool) bool { return !slices.Contains(env.Names(b), name) })
	return slices.Collect(maps.Keys(set))
}

func kubectl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := runKubectl(args...); err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func runKubectl(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(testEnv.BinDir, "kubectl"), append([]string{"--kubeconfig", testEnv.Kubeconfig}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func cleanup(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }
