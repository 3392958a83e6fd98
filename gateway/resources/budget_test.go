package resources

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func budget(allowed, healthy, desired int32, options ...func(*policyv1.PodDisruptionBudget)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b", Namespace: "ns", Generation: 1},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}},
		Status:     policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, DisruptionsAllowed: allowed, CurrentHealthy: healthy, DesiredHealthy: desired},
	}
	for _, option := range options {
		option(b)
	}
	return b
}

func TestSpend(t *testing.T) {
	type refusal struct {
		Code           int32
		Message, Cause string
		RetryAfter     int32
	}
	const violates = "Cannot evict pod as it would violate the pod's disruption budget."
	failedSync := func(b *policyv1.PodDisruptionBudget) {
		b.Status.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "found no controllers"}}
	}
	insufficient := func(b *policyv1.PodDisruptionBudget) {
		b.Status.Conditions = []metav1.Condition{{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: "Because", Message: "of that"}}
	}
	crowded := func(b *policyv1.PodDisruptionBudget) {
		b.Status.DisruptedPods = map[string]metav1.Time{}
		for i := range maxDisruptedPods + 1 {
			b.Status.DisruptedPods[string(rune('a'+i%26))+time.Duration(i).String()] = metav1.Time{}
		}
	}
	tests := map[string]struct {
		budget *policyv1.PodDisruptionBudget
		want   refusal
	}{
		"one that its controller has not looked at": {budget(1, 3, 2, func(b *policyv1.PodDisruptionBudget) { b.Generation = 2 }),
			refusal{429, violates, "The disruption budget b is still being processed by the server.", 10}},
		"one that is used up": {budget(0, 2, 2),
			refusal{429, violates, "The disruption budget b needs 2 healthy pods and has 2 currently", 0}},
		"one whose controller failed": {budget(0, 3, 2, failedSync),
			refusal{429, violates, "The disruption budget b does not allow evicting pods currently because it failed sync: found no controllers", 0}},
		"one with a reason": {budget(0, 3, 2, insufficient),
			refusal{429, violates, "The disruption budget b does not allow evicting pods currently (Because): of that", 0}},
		"one without a reason": {budget(0, 3, 2),
			refusal{429, violates, "The disruption budget b does not allow evicting pods currently", 0}},
		"one that is overdrawn": {budget(-1, 3, 2),
			refusal{403, `poddisruptionbudget.policy "b" is forbidden: pdb disruptions allowed is negative`, "The disruption budget b does not allow evicting pods currently: pdb disruptions allowed is negative", 0}},
		"one with too many unseen evictions": {budget(1, 3, 2, crowded),
			refusal{403, `poddisruptionbudget.policy "b" is forbidden: DisruptedPods map too big - too many evictions not confirmed by PDB controller`, "The disruption budget b does not allow evicting pods currently: too many pending evictions not confirmed by PDB controller", 0}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := spend(test.budget, "a", time.Unix(5, 0))
			var status apierrors.APIStatus
			if !errors.As(err, &status) || len(status.Status().Details.Causes) == 0 {
				t.Fatalf("got %v, want a Status with a cause", err)
			}
			s := status.Status()
			got := refusal{s.Code, s.Message, s.Details.Causes[len(s.Details.Causes)-1].Message, s.Details.RetryAfterSeconds}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSpendTakesOneDisruption(t *testing.T) {
	b := budget(1, 3, 2)
	now := time.Unix(5, 0)
	if err := spend(b, "a", now); err != nil {
		t.Fatal(err)
	}
	if b.Status.DisruptionsAllowed != 0 || !b.Status.DisruptedPods["a"].Time.Equal(now) {
		t.Errorf("the budget is %+v", b.Status)
	}
	if len(b.Status.Conditions) != 1 || b.Status.Conditions[0].Reason != policyv1.InsufficientPodsReason {
		t.Errorf("conditions are %+v, want %s", b.Status.Conditions, policyv1.InsufficientPodsReason)
	}
}

func TestSparesUnhealthy(t *testing.T) {
	always := func(b *policyv1.PodDisruptionBudget) { b.Spec.UnhealthyPodEvictionPolicy = new(policyv1.AlwaysAllow) }
	tests := map[string]struct {
		budget *policyv1.PodDisruptionBudget
		want   bool
	}{
		"enough others are healthy":  {budget(0, 2, 2), true},
		"too few others are healthy": {budget(0, 1, 2), false},
		"none is wanted":             {budget(0, 0, 0), false},
		"the policy does not care":   {budget(0, 0, 2, always), true},
		"the policy is the default's": {budget(0, 1, 2, func(b *policyv1.PodDisruptionBudget) {
			b.Spec.UnhealthyPodEvictionPolicy = new(policyv1.IfHealthyBudget)
		}), false},
	}
	for name, test := range tests {
		if got := sparesUnhealthy(test.budget); got != test.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestBudgetsOf(t *testing.T) {
	pod := bound(30, func(p *corev1.Pod) { p.Namespace, p.Labels = "ns", map[string]string{"app": "x"} })
	elsewhere := budget(1, 1, 1, func(b *policyv1.PodDisruptionBudget) { b.Namespace = "other" })
	broken := budget(1, 1, 1, func(b *policyv1.PodDisruptionBudget) {
		b.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Near"}}}
	})
	others := budget(1, 1, 1, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector.MatchLabels["app"] = "y" })
	none := budget(1, 1, 1, func(b *policyv1.PodDisruptionBudget) { b.Spec.Selector = nil })
	mine := budget(1, 1, 1)
	got := budgetsOf(pod, []policyv1.PodDisruptionBudget{*elsewhere, *broken, *others, *none, *mine})
	if diff := cmp.Diff([]policyv1.PodDisruptionBudget{*mine}, got); diff != "" {
		t.Errorf("budgets (-want +got):\n%s", diff)
	}
}
