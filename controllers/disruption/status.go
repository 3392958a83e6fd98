package disruption

import (
	"time"

	upstreampolicyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/apps/poddisruptionbudget"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	policyv1 "github.com/keelson-dev/keelson/apis/policy/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// observed is what a budget is computed from.
type observed struct {
	pods []*keelsonv1.Pod
	// scale is how many Pods the owners of the Pods want; only where it is needed.
	scale int32
	// unmanaged are Pods without an owner, where scale is needed.
	unmanaged []string
}

// needsScale says whether the budget depends on how many Pods their owners want: all but
// a plain number that has to stay.
func needsScale(spec *upstreampolicyv1.PodDisruptionBudgetSpec) bool {
	return spec.MaxUnavailable != nil || spec.MinAvailable != nil && spec.MinAvailable.Type == intstr.String
}

// computeStatus is the status of a budget. next is when it changes by itself, 0 for
// never.
func computeStatus(budget *policyv1.PodDisruptionBudget, seen observed, now time.Time) (status policyv1.PodDisruptionBudgetStatus, next time.Duration) {
	expected, desired, err := expectations(&budget.Spec, seen)
	if err != nil {
		return failedStatus(budget, err), 0
	}
	disrupted, next := stillDisrupted(budget.Status.DisruptedPods, seen.pods, now)
	healthy := countHealthy(seen.pods, disrupted)
	allowed := max(healthy-desired, 0)
	if expected <= 0 {
		// Its first Pods may come before this controller has seen them.
		allowed = 0
	}
	upstream := &upstreampolicyv1.PodDisruptionBudget{ObjectMeta: budget.ObjectMeta, Spec: budget.Spec}
	upstream.Status = upstreampolicyv1.PodDisruptionBudgetStatus{
		CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected, DisruptionsAllowed: allowed,
		DisruptedPods: disrupted, ObservedGeneration: budget.Generation,
		Conditions: append([]metav1.Condition(nil), budget.Status.Conditions...),
	}
	poddisruptionbudget.UpdateDisruptionAllowedCondition(upstream)
	status.PodDisruptionBudgetStatus = upstream.Status
	status.Summary = summary.PodDisruptionBudget(&budget.Spec)
	return status, next
}

// expectations are how many Pods there should be, and how many of them healthy.
func expectations(spec *upstreampolicyv1.PodDisruptionBudgetSpec, seen observed) (expected, desired int32, err error) {
	switch {
	case spec.MaxUnavailable != nil:
		unavailable, err := intstr.GetScaledValueFromIntOrPercent(spec.MaxUnavailable, int(seen.scale), true)
		return seen.scale, max(seen.scale-int32(unavailable), 0), err
	case spec.MinAvailable != nil && spec.MinAvailable.Type == intstr.String:
		available, err := intstr.GetScaledValueFromIntOrPercent(spec.MinAvailable, int(seen.scale), true)
		return seen.scale, int32(available), err
	case spec.MinAvailable != nil:
		return int32(len(seen.pods)), spec.MinAvailable.IntVal, nil
	}
	return 0, 0, nil
}

// stillDisrupted are the Pods that evictions have spent from the budget for and that are
// not marked as being deleted yet. One that takes too long counts again.
func stillDisrupted(disrupted map[string]metav1.Time, pods []*keelsonv1.Pod, now time.Time) (still map[string]metav1.Time, next time.Duration) {
	for _, pod := range pods {
		since, is := disrupted[pod.Name]
		end := since.Add(deletionTimeout)
		if !is || pod.DeletionTimestamp != nil || end.Before(now) {
			continue
		}
		if still == nil {
			still = map[string]metav1.Time{}
		}
		still[pod.Name] = since
		if wait := max(end.Sub(now), time.Millisecond); next == 0 || wait < next {
			next = wait
		}
	}
	return still, next
}

// overdue are the Pods that evictions have spent from the budget for, that are not being
// deleted, and for which that is over now.
func overdue(disrupted map[string]metav1.Time, pods []*keelsonv1.Pod, now time.Time) []*keelsonv1.Pod {
	var late []*keelsonv1.Pod
	for _, pod := range pods {
		if since, is := disrupted[pod.Name]; is && pod.DeletionTimestamp == nil && since.Add(deletionTimeout).Before(now) {
			late = append(late, pod)
		}
	}
	return late
}

func countHealthy(pods []*keelsonv1.Pod, disrupted map[string]metav1.Time) int32 {
	var healthy int32
	for _, pod := range pods {
		if _, goes := disrupted[pod.Name]; !goes && pod.DeletionTimestamp == nil && podstatus.IsReady(pod) {
			healthy++
		}
	}
	return healthy
}

// failedStatus allows nothing, and says why.
func failedStatus(budget *policyv1.PodDisruptionBudget, err error) policyv1.PodDisruptionBudgetStatus {
	status := *budget.Status.DeepCopy()
	status.DisruptionsAllowed = 0
	status.Summary = summary.PodDisruptionBudget(&budget.Spec)
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: upstreampolicyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
		Reason: upstreampolicyv1.SyncFailedReason, Message: err.Error(), ObservedGeneration: status.ObservedGeneration,
	})
	return status
}

func statusEqual(a, b *policyv1.PodDisruptionBudgetStatus) bool {
	return equality.Semantic.DeepEqual(a, b)
}
