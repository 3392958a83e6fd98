package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDisruptionByTheNode(t *testing.T) {
	now := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	pod := makePod("a")
	find := func(f *Failure) *corev1.PodCondition {
		s := Compute(Input{Pod: pod, Failure: f, Now: now})
		return findCondition(s.Conditions, corev1.DisruptionTarget)
	}
	if c := find(&Failure{Reason: "OutOfcpu"}); c != nil {
		t.Errorf("a Pod that failed by itself: %+v", c)
	}
	got := find(&Failure{Reason: "Evicted", Message: "The node was low. ", Disruption: true})
	want := &corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "TerminationByKubelet", Message: "The node was low. ",
		ObservedGeneration: pod.Generation, LastTransitionTime: now,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// Others say who disrupts a Pod as well: one condition of a kind.
	foreign := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}
	gate := corev1.PodCondition{Type: "example.org/gate", Status: corev1.ConditionTrue}
	merged := mergeConditions([]corev1.PodCondition{*got}, []corev1.PodCondition{foreign, gate})
	if diff := cmp.Diff([]corev1.PodCondition{gate, *got}, merged); diff != "" {
		t.Error(diff)
	}
	if merged := mergeConditions(nil, []corev1.PodCondition{foreign}); len(merged) != 1 {
		t.Errorf("others' condition is lost: %+v", merged)
	}
}

func TestARefusedPodHasNoContainersForALaterProcess(t *testing.T) {
	refused := corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "Pod was rejected: The node had condition: [DiskPressure]. "}
	s := Compute(Input{Pod: makePod("a"), Previous: refused, Terminal: true, Now: metav1.Now()})
	if len(s.ContainerStatuses) != 0 || s.Phase != corev1.PodFailed || s.Reason != refused.Reason || s.Message != refused.Message {
		t.Errorf("status %+v", s)
	}
}
