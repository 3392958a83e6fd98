package job

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// burst is the largest number of Pods that one reconciliation makes, deletes or counts,
// so that a large Job does not keep others waiting.
const burst = 500

// podPlan is what to do about the number of Pods.
type podPlan struct {
	// Delete are Pods that go. They keep the tracking finalizer when the Job ends,
	// because then they are counted as failed; else they count for nothing.
	Delete        []*keelsonv1.Pod
	KeepFinalizer bool
	// Create is how many Pods to make; for an Indexed Job, Indexes says which.
	Create  int
	Indexes []int
	// Wait is when Pods can be made that back-off forbids now; 0 for none.
	Wait time.Duration
	// Reason says why; "" when nothing is to do.
	Reason string
}

// planPods decides. end is the verdict, nil while the Job goes on.
func planPods(s *snapshot, end *verdict) podPlan {
	switch {
	case end != nil:
		return podPlan{Delete: s.active, KeepFinalizer: true, Reason: string(end.Type) + ": " + end.Reason}
	case s.deleting():
		return podPlan{}
	case s.suspended():
		return podPlan{Delete: planVictims(s, len(s.active)), Reason: "The Job is suspended"}
	}
	active, want := len(s.active), wantActive(s)
	if victims := planVictims(s, max(0, active-want)); len(victims) > 0 {
		// Either deletion or creation in one go: a repeated index is both.
		return podPlan{Delete: victims[:min(len(victims), burst)], Reason: "Too many Pods, or some of no use"}
	}
	if s.replacesFailedOnly() {
		active += int(s.terminating)
	}
	missing := min(want-active, burst)
	if missing <= 0 {
		return podPlan{}
	}
	return planCreation(s, missing)
}

func planCreation(s *snapshot, missing int) podPlan {
	const reason = "Too few Pods"
	if !s.perIndex() {
		if wait := s.streak.wait(s.now); wait > 0 {
			return podPlan{Wait: wait}
		}
	}
	if !s.indexed() {
		return podPlan{Create: missing, Reason: reason}
	}
	var plan podPlan
	for _, i := range s.pendingIndexes(missing) {
		wait := streakOf(s.retained[i]).wait(s.now)
		if s.perIndex() && wait > 0 {
			plan.Wait = shorter(plan.Wait, wait)
			continue
		}
		plan.Indexes = append(plan.Indexes, i)
	}
	if plan.Create = len(plan.Indexes); plan.Create > 0 {
		plan.Reason = reason
	}
	return plan
}

// wantActive is how many Pods should be active.
func wantActive(s *snapshot) int {
	parallelism := int(*s.job.Spec.Parallelism)
	if s.job.Spec.Completions == nil {
		if s.succeeded > 0 {
			return len(s.active)
		}
		return parallelism
	}
	return max(0, min(parallelism, int(*s.job.Spec.Completions-s.succeeded)))
}

// pendingIndexes returns the lowest indexes that need a Pod, at most count.
func (s *snapshot) pendingIndexes(count int) []int {
	taken := s.succeededIndexes.with(indexesOf(s.active).UnsortedList()...)
	if s.replacesFailedOnly() {
		for _, pod := range s.pods {
			if i := indexOf(pod); i != noIndex && isTerminating(pod) {
				taken = taken.with(i)
			}
		}
	}
	if s.failedIndexes != nil {
		taken = taken.union(*s.failedIndexes)
	}
	return taken.firstMissing(count, s.completions())
}

// planVictims returns the active Pods that have to go: those that are of no use, and
// then as many as it takes to make atLeast, those that would be missed least first.
//
// Of no use is a Pod without the tracking finalizer: its end would not be counted. A
// deletion that was interrupted leaves such a Pod. In an Indexed Job so are Pods of no
// index, of one that is out of range, and all but one of the same index.
func planVictims(s *snapshot, atLeast int) []*keelsonv1.Pod {
	ranked := slices.Clone(s.active)
	slices.SortFunc(ranked, func(a, b *keelsonv1.Pod) int { return cmp.Compare(a.UID, b.UID) })
	slices.SortStableFunc(ranked, compareVictims)

	var victims, rest []*keelsonv1.Pod
	kept := map[int]bool{}
	// From the best down, so that the best of each index is the one that stays.
	for _, pod := range slices.Backward(ranked) {
		i := indexOf(pod)
		if !jobs.IsTracked(pod) || s.indexed() && (!s.validIndex(i) || kept[i]) {
			victims = append(victims, pod)
			continue
		}
		kept[i] = true
		rest = append(rest, pod)
	}
	slices.Reverse(rest)
	if more := atLeast - len(victims); more > 0 {
		victims = append(victims, rest[:min(more, len(rest))]...)
	}
	return victims
}

// compareVictims is negative when a should go before b, in upstream's order
// (ActivePods in pkg/controller/controller_utils.go).
func compareVictims(a, b *keelsonv1.Pod) int {
	return cmp.Or(
		compareBool(a.Spec.NodeName != "", b.Spec.NodeName != ""),
		cmp.Compare(phaseOrder(a), phaseOrder(b)),
		compareBool(podstatus.IsReady(a), podstatus.IsReady(b)),
		compareReadySince(a, b),
		-compareRestarts(a, b),
		-a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
	)
}

func compareReadySince(a, b *keelsonv1.Pod) int {
	aSince, aReady := podstatus.ReadySince(a)
	bSince, bReady := podstatus.ReadySince(b)
	if !aReady || !bReady {
		return 0
	}
	return -aSince.Compare(bSince)
}

func compareRestarts(a, b *keelsonv1.Pod) int {
	aContainers, aSidecars := podstatus.MaxRestarts(a)
	bContainers, bSidecars := podstatus.MaxRestarts(b)
	return cmp.Or(cmp.Compare(aContainers, bContainers), cmp.Compare(aSidecars, bSidecars))
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func phaseOrder(pod *keelsonv1.Pod) int {
	switch pod.Status.Phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	default:
		return 0
	}
}

// shorter is the shorter of two waits, of which 0 means none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
