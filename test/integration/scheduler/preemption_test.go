package scheduler_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	upstreampolicyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrl "sigs.k8s.io/controller-runtime"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/controllers/scheduler"
	"github.com/keelson-dev/keelson/test/env"
)

func withPriority(p *keelsonv1.Pod, priority int32) *keelsonv1.Pod {
	p.Spec.Priority = &priority
	return p
}

// leaves is what the agent does when a Pod has ended: the object goes.
func leaves(t *testing.T, p *keelsonv1.Pod) {
	t.Helper()
	fresh := read(t, p)
	fresh.Finalizers = nil
	if err := testEnv.Client.Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
}

func isGoing(t *testing.T, p *keelsonv1.Pod) *keelsonv1.Pod {
	t.Helper()
	var fresh *keelsonv1.Pod
	env.Eventually(t, func() string {
		if fresh = read(t, p); fresh.DeletionTimestamp == nil {
			return p.Name + " is not being deleted"
		}
		return ""
	})
	return fresh
}

func TestAnUrgentPodMakesALessImportantOneGo(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "preempt-1", "1", "10")
	low := becomesBound(t, create(t, withPriority(pod(ns, "low", "1"), 1)), "preempt-1")
	urgent := create(t, withPriority(pod(ns, "urgent", "1"), 100))

	going := isGoing(t, low)
	condition := func() *corev1.PodCondition {
		for i := range going.Status.Conditions {
			if going.Status.Conditions[i].Type == corev1.DisruptionTarget {
				return &going.Status.Conditions[i]
			}
		}
		return &corev1.PodCondition{}
	}()
	if condition.Status != corev1.ConditionTrue || condition.Reason != "PreemptionByScheduler" ||
		condition.Message != "default-scheduler: preempting to accommodate a higher priority pod" {
		t.Errorf("the victim's condition is %+v", condition)
	}
	eventAppears(t, ns, "Preempted", fmt.Sprintf("Preempted by pod %s on node preempt-1", urgent.UID))
	becomesUnschedulable(t, urgent, "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node preempt-1, preempting 1 victims")
	if got := read(t, urgent).Status.NominatedNodeName; got != "preempt-1" {
		t.Errorf("nominated for %q", got)
	}
	// Neither a Pod of lower priority takes the place, nor is anybody else made to go.
	late := create(t, withPriority(pod(ns, "late", "1"), 50))
	leaves(t, low)
	bound := becomesBound(t, urgent, "preempt-1")
	env.Eventually(t, func() string {
		if left := read(t, bound).Status.NominatedNodeName; left != "" {
			return "a bound Pod is nominated for " + left
		}
		return ""
	})
	env.Always(t, time.Second, func() string {
		if read(t, late).Spec.NodeName != "" {
			return "a Pod of lower priority took the place"
		}
		return ""
	})
}

func TestPreemptionPolicyNeverWaits(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "never-1", "1", "10")
	low := becomesBound(t, create(t, withPriority(pod(ns, "low", "1"), 1)), "never-1")
	polite := withPriority(pod(ns, "polite", "1"), 100)
	polite.Spec.PreemptionPolicy = new(corev1.PreemptNever)
	create(t, polite)
	becomesUnschedulable(t, polite, "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.")
	if read(t, low).DeletionTimestamp != nil {
		t.Error("a polite Pod made another go")
	}
}

func TestABudgetDecidesWhoGoes(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "budget-1", "1", "10")
	node(t, "budget-2", "1", "10")
	guarded := withPriority(pod(ns, "guarded", "1"), 1)
	guarded.Labels = map[string]string{"app": "guarded"}
	budget := create(t, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "guard"},
		Spec:       upstreampolicyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: guarded.Labels}},
	})
	budget.Status.DisruptionsAllowed, budget.Status.ExpectedPods, budget.Status.CurrentHealthy, budget.Status.DesiredHealthy = 0, 1, 1, 1
	if err := testEnv.Client.Status().Update(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	becomesBound(t, create(t, guarded), "")
	open := becomesBound(t, create(t, withPriority(pod(ns, "open", "1"), 50)), "")
	create(t, withPriority(pod(ns, "urgent", "1"), 100))
	isGoing(t, open)
	if read(t, guarded).DeletionTimestamp != nil {
		t.Error("the guarded Pod goes, too")
	}
}

// A scheduler that dies after it nominated a Node and before it made anybody go leaves
// that in status; the next one goes on.
func TestTheNextSchedulerGoesOnWithAPreemption(t *testing.T) {
	ns := testEnv.Namespace(t)
	node(t, "resume-1", "1", "10")
	low := withPriority(pod(ns, "low", "1"), 1)
	low.Spec.NodeName, low.Finalizers = "resume-1", []string{keelsonv1.PodFinalizer}
	create(t, low)
	urgent := create(t, withPriority(pod(ns, "urgent", "1"), 100))
	urgent.Status.NominatedNodeName = "resume-1"
	if err := testEnv.Client.Status().Update(t.Context(), urgent); err != nil {
		t.Fatal(err)
	}
	start(t)
	isGoing(t, low)
	leaves(t, low)
	becomesBound(t, urgent, "resume-1")
}

func TestGatesHoldAPod(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "gate-1", "4", "10")
	gated := pod(ns, "gated", "")
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	create(t, gated)
	env.Eventually(t, func() string {
		fresh := read(t, gated)
		for _, c := range fresh.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonSchedulingGated &&
				c.Message == "Scheduling is blocked due to non-empty scheduling gates" && fresh.Status.Summary.Status == "SchedulingGated" {
				return ""
			}
		}
		return fmt.Sprintf("conditions are %v, summary %q", fresh.Status.Conditions, fresh.Status.Summary.Status)
	})
	fresh := read(t, gated)
	if fresh.Spec.NodeName != "" {
		t.Fatalf("a gated Pod was placed on %s", fresh.Spec.NodeName)
	}
	fresh.Spec.SchedulingGates = nil
	if err := testEnv.Client.Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	becomesBound(t, gated, "gate-1")
}

func TestAPodWaitsForTheOneItWantsToBeWith(t *testing.T) {
	start(t)
	ns := testEnv.Namespace(t)
	node(t, "near-1", "4", "10", func(n *keelsonv1.Node) { n.Labels["rack"] = "a" })
	node(t, "near-2", "4", "10", func(n *keelsonv1.Node) { n.Labels["rack"] = "b" })
	friend := pod(ns, "friend", "")
	friend.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{TopologyKey: "rack", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}}}
	create(t, friend)
	becomesUnschedulable(t, friend, "0/2 nodes are available: 2 node(s) didn't match pod affinity rules. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.")
	web := pod(ns, "web", "")
	web.Labels = map[string]string{"app": "web"}
	web.Spec.NodeSelector = map[string]string{"rack": "b"}
	create(t, web)
	becomesBound(t, friend, "near-2")
}

func TestProfilesOfAConfigurationFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scheduler.yaml")
	file := `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: spreads
- schedulerName: packs
  plugins: {score: {disabled: [{name: "*"}], enabled: [{name: NodeResourcesFit}]}}
  pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}]
- schedulerName: edge
  pluginConfig: [{name: NodeAffinity, args: {addedAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: edge, operator: Exists}]}]}}}}]
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	testEnv.StartManager(t, func(mgr ctrl.Manager) error { return scheduler.Add(mgr, scheduler.Options{ConfigFile: path}) })
	ns := testEnv.Namespace(t)
	node(t, "profile-1", "8", "20")
	node(t, "profile-2", "8", "20")
	node(t, "profile-3", "8", "20", func(n *keelsonv1.Node) { n.Labels["edge"] = ""; n.Spec.Unschedulable = false })
	place := func(name, profile, cpu string) string {
		p := pod(ns, name, cpu)
		p.Spec.SchedulerName = profile
		return becomesBound(t, create(t, p), "").Spec.NodeName
	}
	first := place("first", "packs", "2")
	for _, name := range []string{"second", "third"} {
		if on := place(name, "packs", "2"); on != first {
			t.Errorf("%s went to %s, the first to %s", name, on, first)
		}
	}
	if on := place("apart", "spreads", "1"); on == first {
		t.Errorf("a Pod that spreads went to the fullest Node")
	}
	if on := place("edge", "edge", ""); on != "profile-3" {
		t.Errorf("a Pod of the edge profile went to %s", on)
	}
	stray := pod(ns, "stray", "")
	create(t, stray)
	env.Always(t, time.Second, func() string {
		if read(t, stray).Spec.NodeName != "" {
			return "a Pod of a scheduler that is no profile was placed"
		}
		return ""
	})
	if err := os.WriteFile(path, []byte(strings.Replace(file, "MostAllocated", "Fullest", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := scheduler.CheckConfig(path); err == nil || !strings.Contains(err.Error(), "Fullest") {
		t.Errorf("a strategy that nobody knows: %v", err)
	}
}
