package quota

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiquota "k8s.io/apiserver/pkg/quota/v1"
	resourcehelper "k8s.io/component-helpers/resource"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Pending is how long a reservation waits for its object to be counted: longer than any
// request lives after its admission.
const Pending = time.Minute

// Request is an object that is to be stored.
type Request struct {
	Object Object
	// Old is the object that it replaces, nil on creation.
	Old *Object
}

// Admit reserves what the request takes in every quota that concerns it, or changes none
// of them and says why it does not fit. It is called again after a conflict of writes: a
// quota that has the reservation already stays as it is. The result are the quotas that
// have changed.
func Admit(quotas []*keelsonv1.ResourceQuota, r Request, now time.Time) (changed []*keelsonv1.ResourceQuota, err error) {
	usage := r.Object.Usage(now)
	for _, quota := range quotas {
		if !Matches(quota, r.Object) {
			continue
		}
		names := r.Object.names(quota.Status.Hard)
		if reserved(quota, r.Object, apiquota.Mask(usage, names)) {
			continue
		}
		if missing := unspecified(names, r.Object.Pod); missing != "" {
			return nil, fmt.Errorf("failed quota: %s: must specify %s", quota.Name, missing)
		}
		if unknown := uncounted(quota, names); len(unknown) > 0 {
			return nil, fmt.Errorf("status unknown for quota: %s, resources: %s", quota.Name, join(unknown))
		}
		more := usage
		if r.Old != nil && Matches(quota, *r.Old) {
			more = apiquota.SubtractWithNonNegativeResult(usage, r.Old.Usage(now))
		}
		more = apiquota.Mask(apiquota.RemoveZeros(more), names)
		if len(more) == 0 {
			continue
		}
		after := apiquota.Add(quota.Status.Used, more)
		if fits, exceeded := apiquota.LessThanOrEqual(apiquota.Mask(after, apiquota.ResourceNames(more)), quota.Status.Hard); !fits {
			return nil, fmt.Errorf("exceeded quota: %s, requested: %s, used: %s, limited: %s", quota.Name,
				pretty(apiquota.Mask(more, exceeded)), pretty(apiquota.Mask(quota.Status.Used, exceeded)), pretty(apiquota.Mask(quota.Status.Hard, exceeded)))
		}
		next := quota.DeepCopy()
		next.Status.Used = after
		next.Status.Summary.Pending = append(next.Status.Summary.Pending, reservation(r.Object, apiquota.Mask(usage, names), now))
		changed = append(changed, next)
	}
	return changed, nil
}

func reservation(o Object, usage corev1.ResourceList, now time.Time) keelsonv1.ResourceQuotaReservation {
	return keelsonv1.ResourceQuotaReservation{
		UID: o.Meta.GetUID(), Generation: o.Meta.GetGeneration(), Until: metav1.NewTime(now.Add(Pending)), Usage: usage,
	}
}

// reserved says whether the quota has this very reservation. An update that was admitted
// and not stored may be followed by another one of the same generation, for more.
func reserved(quota *keelsonv1.ResourceQuota, o Object, usage corev1.ResourceList) bool {
	return slices.ContainsFunc(quota.Status.Summary.Pending, func(p keelsonv1.ResourceQuotaReservation) bool {
		return p.UID == o.Meta.GetUID() && p.Generation == o.Meta.GetGeneration() && apiquota.Equals(p.Usage, usage)
	})
}

// uncounted are resources that the quota limits but has not counted yet.
func uncounted(quota *keelsonv1.ResourceQuota, names []corev1.ResourceName) []corev1.ResourceName {
	return slices.DeleteFunc(slices.Clone(names), func(name corev1.ResourceName) bool {
		_, ok := quota.Status.Used[name]
		return ok
	})
}

// mustSpecify are the resources that every container has to name once a quota limits
// them. Upstream calls that a mistake, and keeps it for these.
var mustSpecify = []corev1.ResourceName{
	corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory,
	corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
}

// unspecified says which of the names which containers leave out; names are sorted.
func unspecified(names []corev1.ResourceName, pod *keelsonv1.Pod) string {
	if pod == nil || resourcehelper.IsPodLevelResourcesSet(pod.Upstream()) {
		return ""
	}
	var parts []string
	for _, name := range names {
		if !slices.Contains(mustSpecify, name) {
			continue
		}
		var without []string
		for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
			used := corev1.ResourceList{}
			addCompute(used, c.Resources.Requests, c.Resources.Limits)
			if _, has := used[name]; !has {
				without = append(without, c.Name)
			}
		}
		if len(without) > 0 {
			slices.Sort(without)
			parts = append(parts, fmt.Sprintf("%s for: %s", name, strings.Join(without, ",")))
		}
	}
	return strings.Join(parts, "; ")
}

func join(names []corev1.ResourceName) string {
	var all []string
	for _, name := range names {
		all = append(all, string(name))
	}
	return strings.Join(all, ",")
}

// pretty is "a=1,b=2".
func pretty(list corev1.ResourceList) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		amount := list[name]
		all = append(all, string(name)+"="+amount.String())
	}
	return strings.Join(all, ",")
}
