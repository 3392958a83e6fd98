package quota

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	apiquota "k8s.io/apiserver/pkg/quota/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Counted is what a quota's status should be.
type Counted struct {
	Used    corev1.ResourceList
	Pending []keelsonv1.ResourceQuotaReservation
	// Next is the time from now after which the count changes by itself; 0 for never.
	Next time.Duration
}

// Count adds up what the objects of the Namespace take of the quota, those of every kind
// that it limits, and what is reserved for objects that are not among them yet.
func Count(quota *keelsonv1.ResourceQuota, objects []Object, now time.Time) Counted {
	var c Counted
	c.Used = corev1.ResourceList{}
	for name := range quota.Spec.Hard {
		c.Used[name] = zeroOf(name, quota.Spec.Hard)
	}
	pending := map[types.UID]keelsonv1.ResourceQuotaReservation{}
	for _, p := range quota.Status.Summary.Pending {
		if now.Before(p.Until.Time) && pending[p.UID].Generation <= p.Generation {
			pending[p.UID] = p
		}
	}
	for _, o := range objects {
		if p, waits := pending[o.Meta.GetUID()]; waits && o.Meta.GetGeneration() < p.Generation {
			continue // its reservation knows better
		}
		delete(pending, o.Meta.GetUID())
		c.add(quota, o, now)
	}
	for _, p := range quota.Status.Summary.Pending {
		if kept, waits := pending[p.UID]; !waits || kept.Generation != p.Generation {
			continue
		}
		c.Used = apiquota.Add(c.Used, apiquota.Mask(p.Usage, apiquota.ResourceNames(c.Used)))
		c.Pending = append(c.Pending, p)
		c.wait(p.Until.Sub(now))
	}
	return c
}

func (c *Counted) add(quota *keelsonv1.ResourceQuota, o Object, now time.Time) {
	names := o.names(quota.Spec.Hard)
	if len(names) == 0 || !inScopes(&quota.Spec, o) {
		return
	}
	c.Used = apiquota.Add(c.Used, apiquota.Mask(o.Usage(now), names))
	if o.Pod == nil {
		return
	}
	if end, ending := Ends(o.Pod); ending && end.After(now) {
		c.wait(end.Sub(now))
	}
}

func (c *Counted) wait(d time.Duration) {
	if d = max(d, time.Millisecond); c.Next == 0 || d < c.Next {
		c.Next = d
	}
}

// zeroOf keeps the way in which the limit is written: "0" for a number, "0" for bytes.
func zeroOf(name corev1.ResourceName, hard corev1.ResourceList) (zero resource.Quantity) {
	zero = hard[name].DeepCopy()
	zero.Set(0)
	return zero
}

// Status is the status of the quota with that count, as yet without columns.
func (c Counted) Status(quota *keelsonv1.ResourceQuota) keelsonv1.ResourceQuotaStatus {
	status := *quota.Status.DeepCopy()
	status.Hard, status.Used, status.Summary.Pending = quota.Spec.Hard.DeepCopy(), c.Used, c.Pending
	return status
}
