package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/qos"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// What a Pod shows that had to make room for a critical one, in upstream's words.
const (
	// reasonUnexpectedAdmission is that of a critical Pod for which nobody can be ended.
	reasonUnexpectedAdmission = "UnexpectedAdmissionError"

	reasonPreempting    = "Preempting"
	preemptingMessage   = "Preempted in order to admit critical pod"
	preemptedDisruption = "Pod was preempted by Kubelet to accommodate a critical pod."
)

// systemCritical is the priority from which on a Pod is critical, as upstream.
const systemCritical = 2_000_000_000

// isCritical says that the node makes room for the Pod.
func isCritical(pod *keelsonv1.Pod) bool {
	return staticpods.IsStatic(pod) || pod.Spec.Priority != nil && *pod.Spec.Priority >= systemCritical
}

// preemptable says whether victim may be ended for pod.
func preemptable(pod, victim *keelsonv1.Pod) bool {
	if isCritical(pod) && !isCritical(victim) {
		return true
	}
	return pod.Spec.Priority != nil && victim.Spec.Priority != nil && *pod.Spec.Priority > *victim.Spec.Priority
}

// planPreemption chooses, as upstream, whom a critical Pod that lacks something takes the
// place of: as few guaranteed Pods as possible, then burstable ones, then the others; of one
// class as few as possible, and of those the smaller. It fails when all together have too
// little.
func planPreemption(pod *keelsonv1.Pod, others []*keelsonv1.Pod, lacks []shortage) ([]*keelsonv1.Pod, error) {
	var guaranteed, burstable, bestEffort []*keelsonv1.Pod
	sorted := slices.SortedFunc(slices.Values(others), func(a, b *keelsonv1.Pod) int { return cmp.Compare(a.UID, b.UID) })
	for _, other := range sorted {
		if !preemptable(pod, other) {
			continue
		}
		switch qos.Class(&other.Spec) {
		case corev1.PodQOSGuaranteed:
			guaranteed = append(guaranteed, other)
		case corev1.PodQOSBurstable:
			burstable = append(burstable, other)
		default:
			bestEffort = append(bestEffort, other)
		}
	}
	need := needs{}
	for _, s := range lacks {
		need[s.name] = s.requested - (s.capacity - s.used)
	}
	if left := need.without(slices.Concat(bestEffort, burstable, guaranteed)); len(left) > 0 {
		return nil, noVictims(left)
	}
	first, err := nearest(guaranteed, need.without(slices.Concat(bestEffort, burstable)))
	if err != nil {
		return nil, err
	}
	second, err := nearest(burstable, need.without(slices.Concat(bestEffort, first)))
	if err != nil {
		return nil, err
	}
	third, err := nearest(bestEffort, need.without(slices.Concat(second, first)))
	if err != nil {
		return nil, err
	}
	return slices.Concat(third, second, first), nil
}

func noVictims(left needs) error {
	return fmt.Errorf("preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: %v", left)
}

// needs are amounts that are missing, all above zero; of cpu in thousandths.
type needs map[corev1.ResourceName]int64

func (n needs) String() string {
	var text strings.Builder
	for _, name := range n.names() {
		fmt.Fprintf(&text, "(res: %s, q: %d), ", name, n[name])
	}
	return "[" + text.String() + "]"
}

func (n needs) names() []corev1.ResourceName {
	return slices.Sorted(maps.Keys(n))
}

// without is what is still missing when pods are gone.
func (n needs) without(pods []*keelsonv1.Pod) needs {
	left := needs{}
	for name, amount := range n {
		for _, pod := range pods {
			amount -= requested(pod, name)
		}
		if amount > 0 {
			left[name] = amount
		}
	}
	return left
}

// distance is how much would still be missing without pod; each resource weighs the same.
func (n needs) distance(pod *keelsonv1.Pod) float64 {
	sum := 0.0
	for _, name := range n.names() {
		if left := n[name] - requested(pod, name); left > 0 {
			sum += math.Pow(float64(left)/float64(n[name]), 2)
		}
	}
	return sum
}

// nearest takes from pods, one by one, the one that leaves the least missing.
func nearest(pods []*keelsonv1.Pod, need needs) ([]*keelsonv1.Pod, error) {
	pods = slices.Clone(pods)
	var taken []*keelsonv1.Pod
	for len(need) > 0 {
		if len(pods) == 0 {
			return nil, noVictims(need)
		}
		best := slices.MinFunc(pods, func(a, b *keelsonv1.Pod) int {
			return cmp.Or(
				cmp.Compare(need.distance(a), need.distance(b)),
				cmp.Compare(requested(a, corev1.ResourceMemory), requested(b, corev1.ResourceMemory)),
				cmp.Compare(requested(a, corev1.ResourceCPU), requested(b, corev1.ResourceCPU)),
			)
		})
		need = need.without([]*keelsonv1.Pod{best})
		taken = append(taken, best)
		pods = slices.DeleteFunc(pods, func(pod *keelsonv1.Pod) bool { return pod == best })
	}
	return taken, nil
}

// requested is what a Pod frees when it ends; each is one of the Pods that the node can run.
func requested(pod *keelsonv1.Pod, name corev1.ResourceName) int64 {
	if name == corev1.ResourcePods {
		return 1
	}
	return amountOf(name, podRequests(pod))
}

// makeRoom ends others for a critical Pod, which waits for them. A Pod for which there is no
// room anyway is refused.
func (a *agent) makeRoom(ctx context.Context, pod *keelsonv1.Pod, lacks []shortage) *refusal {
	victims, err := planPreemption(pod, a.evictable(), lacks)
	if err != nil {
		return &refusal{reasonUnexpectedAdmission, fmt.Sprintf("Unexpected error while attempting to recover from admission failure: %v", err)}
	}
	a.awaited.add(pod.UID, victims)
	for _, victim := range victims {
		klog.FromContext(ctx).Info("Ending a Pod to make room for a critical one", "pod", klog.KObj(victim), "for", klog.KObj(pod), "first", lacks[0].name)
		a.manager.Recorder.Record(victim, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: reasonPreempting, Message: preemptingMessage})
		a.manager.Evict(victim.UID, status.Failure{
			Reason: reasonPreempting, Message: preemptingMessage, Disruption: true, DisruptionMessage: preemptedDisruption,
		})
		a.metrics.preempted(lacks[0].name)
		grace := ptr.Deref(victim.Spec.TerminationGracePeriodSeconds, corev1.DefaultTerminationGracePeriodSeconds)
		a.end(ctx, victim, time.Duration(grace)*time.Second)
	}
	return nil
}

// mayStart says that nobody ends for the Pod any more.
func (a *agent) mayStart(uid types.UID) bool { return a.awaited.over(uid, a.pool.Stopped) }

// wakeAwaiting has those looked at that wait for the end of a Pod.
func (a *agent) wakeAwaiting(ended types.UID) {
	for _, uid := range a.awaited.waiting(ended) {
		a.pool.Wake(uid)
	}
}

// awaited are critical Pods that start when others have ended for them.
type awaited struct {
	mu      sync.Mutex
	victims map[types.UID][]types.UID
}

func (w *awaited) add(pod types.UID, victims []*keelsonv1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.victims == nil {
		w.victims = map[types.UID][]types.UID{}
	}
	for _, v := range victims {
		w.victims[pod] = append(w.victims[pod], v.UID)
	}
}

// over says that the Pod need not wait for anybody.
func (w *awaited) over(pod types.UID, stopped func(types.UID) bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.ContainsFunc(w.victims[pod], func(uid types.UID) bool { return !stopped(uid) }) {
		delete(w.victims, pod)
		return true
	}
	return false
}

// waiting are the Pods that wait for victim.
func (w *awaited) waiting(victim types.UID) []types.UID {
	w.mu.Lock()
	defer w.mu.Unlock()
	var pods []types.UID
	for pod, victims := range w.victims {
		if slices.Contains(victims, victim) {
			pods = append(pods, pod)
		}
	}
	return pods
}

func (w *awaited) forget(pod types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.victims, pod)
}
