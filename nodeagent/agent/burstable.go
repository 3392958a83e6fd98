package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
)

// burstableMilli is what a burstable Pod asks for, in thousandths of a CPU.
func burstableMilli(pod *keelsonv1.Pod) int64 {
	if pod == nil || qos.Class(&pod.Spec) != corev1.PodQOSBurstable {
		return 0
	}
	requests := podRequests(pod)
	return requests.Cpu().MilliValue()
}

func (p *admittedPods) burstableShares() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cgroups.Shares(p.burstable)
}

// weighBurstable gives the burstable Pods of this node together the weight of what they
// ask for. It is called before a Pod starts and after one has left; while the Pods of a
// starting agent are read nothing is changed.
func (a *agent) weighBurstable(ctx context.Context) {
	a.burstable.mu.Lock()
	defer a.burstable.mu.Unlock()
	shares := a.admitted.burstableShares()
	if !a.burstable.ready || shares == a.burstable.shares {
		return
	}
	if err := a.cgroups.SetBurstable(shares); err != nil {
		klog.FromContext(ctx).Error(err, "Cannot weigh the burstable Pods, will retry", "shares", shares)
		return // the next change, or the next sweep, tries again
	}
	a.burstable.shares = shares
}

// startWeighing says that all Pods of this node are known.
func (a *agent) startWeighing(ctx context.Context) {
	a.burstable.mu.Lock()
	a.burstable.ready = true
	a.burstable.mu.Unlock()
	a.weighBurstable(ctx)
}
