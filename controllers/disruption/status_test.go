package disruption

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	upstreampolicyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
)

var now = time.Unix(1_000_000, 0)

// pods makes ready Pods p0, p1, … and then Pods that are not ready.
func pods(ready, notReady int) []*keelsonv1.Pod {
	var all []*keelsonv1.Pod
	for i := range ready + notReady {
		status := corev1.ConditionTrue
		if i >= ready {
			status = corev1.ConditionFalse
		}
		all = append(all, &keelsonv1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: fmt.Sprint("p", i), Labels: map[string]string{"app": "web"}},
			Status:     keelsonv1.PodStatus{PodStatus: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}}},
		})
	}
	return all
}

func atLeast(value string) upstreampolicyv1.PodDisruptionBudgetSpec {
	return upstreampolicyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.Parse(value)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
}

func atMost(value string) upstreampolicyv1.PodDisruptionBudgetSpec {
	return upstreampolicyv1.PodDisruptionBudgetSpec{MaxUnavailable: new(intstr.Parse(value)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}
}

func TestComputeStatus(t *testing.T) {
	deleting := pods(3, 0)
	deleting[0].DeletionTimestamp = new(metav1.NewTime(now))
	for what, tc := range map[string]struct {
		spec                                upstreampolicyv1.PodDisruptionBudgetSpec
		seen                                observed
		healthy, desired, expected, allowed int32
	}{
		"a number that has to stay":                {atLeast("2"), observed{pods: pods(3, 1)}, 3, 2, 4, 1},
		"fewer than have to stay":                  {atLeast("3"), observed{pods: pods(2, 0)}, 2, 3, 2, 0},
		"a share that has to stay, rounded up":     {atLeast("50%"), observed{pods: pods(5, 0), scale: 5}, 5, 3, 5, 2},
		"a share of Pods that are not all there":   {atLeast("50%"), observed{pods: pods(3, 0), scale: 10}, 3, 5, 10, 0},
		"a number that may be away":                {atMost("1"), observed{pods: pods(3, 0), scale: 3}, 3, 2, 3, 1},
		"a share that may be away, rounded up":     {atMost("30%"), observed{pods: pods(5, 0), scale: 5}, 5, 3, 5, 2},
		"more may be away than there are":          {atMost("9"), observed{pods: pods(3, 0), scale: 3}, 3, 0, 3, 3},
		"no Pods, so nobody knows":                 {atMost("1"), observed{}, 0, 0, 0, 0},
		"what is being deleted is not healthy":     {atLeast("1"), observed{pods: deleting}, 2, 1, 3, 1},
		"neither, which no API server would allow": {upstreampolicyv1.PodDisruptionBudgetSpec{}, observed{pods: pods(1, 0)}, 1, 0, 0, 0},
	} {
		t.Run(what, func(t *testing.T) {
			budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Generation: 7}, Spec: tc.spec}
			status, next := computeStatus(budget, tc.seen, now)
			got := []int32{status.CurrentHealthy, status.DesiredHealthy, status.ExpectedPods, status.DisruptionsAllowed}
			if diff := cmp.Diff([]int32{tc.healthy, tc.desired, tc.expected, tc.allowed}, got); diff != "" || next != 0 || status.ObservedGeneration != 7 {
				t.Errorf("healthy, desired, expected, allowed (-want +got):\n%s next in %v, generation %d", diff, next, status.ObservedGeneration)
			}
			condition := meta.FindStatusCondition(status.Conditions, upstreampolicyv1.DisruptionAllowedCondition)
			if condition == nil || (condition.Status == metav1.ConditionTrue) != (tc.allowed > 0) || condition.ObservedGeneration != 7 {
				t.Errorf("condition %+v", condition)
			}
			budget.Status = status
			if again, _ := computeStatus(budget, tc.seen, now.Add(time.Minute)); !statusEqual(&status, &again) {
				t.Errorf("the same again is another status:\n%s", cmp.Diff(status, again))
			}
		})
	}
}

func TestEvictionsAreRemembered(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{Spec: atLeast("1")}
	budget.Status.DisruptedPods = map[string]metav1.Time{
		"p0":   metav1.NewTime(now.Add(-time.Minute)),     // on its way
		"p1":   metav1.NewTime(now.Add(-3 * time.Minute)), // nobody deleted it
		"p2":   metav1.NewTime(now),                       // being deleted
		"gone": metav1.NewTime(now),
	}
	all := pods(4, 0)
	all[2].DeletionTimestamp = new(metav1.NewTime(now))
	status, next := computeStatus(budget, observed{pods: all}, now)
	want := map[string]metav1.Time{"p0": metav1.NewTime(now.Add(-time.Minute))}
	if diff := cmp.Diff(want, status.DisruptedPods, cmpopts.EquateApproxTime(0)); diff != "" {
		t.Errorf("disrupted (-want +got):\n%s", diff)
	}
	if status.CurrentHealthy != 2 || status.DisruptionsAllowed != 1 || next != time.Minute {
		t.Errorf("%d healthy, %d allowed, next in %v; want 2, 1, 1m0s", status.CurrentHealthy, status.DisruptionsAllowed, next)
	}
}

func TestFailureAllowsNothing(t *testing.T) {
	budget := &policyv1.PodDisruptionBudget{Spec: atMost("1")}
	budget.Status.DisruptionsAllowed = 3
	status := failedStatus(budget, fmt.Errorf("no scale"))
	condition := meta.FindStatusCondition(status.Conditions, upstreampolicyv1.DisruptionAllowedCondition)
	if status.DisruptionsAllowed != 0 || condition == nil || condition.Reason != upstreampolicyv1.SyncFailedReason || condition.Message != "no scale" {
		t.Errorf("%d allowed, condition %+v", status.DisruptionsAllowed, condition)
	}
}
