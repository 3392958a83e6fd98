package job

import (
	"cmp"
	"strconv"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// noIndex is the completion index of a Pod that has none.
const noIndex = -1

// snapshot is what one reconciliation knows of a Job and its Pods before it acts. It is
// computed once and never changed.
type snapshot struct {
	// job has the defaults that admission would have written.
	job *batchv1.Job
	// pods are those that the Job controls, of any phase.
	pods []*keelsonv1.Pod
	now  time.Time

	active      []*keelsonv1.Pod
	ready       int32
	terminating int32
	// uncounted are the Pods in status.uncountedTerminatedPods.
	uncounted struct{ succeeded, failed sets.Set[types.UID] }
	// newSucceeded and newFailed have ended, and status says nothing of them yet.
	newSucceeded, newFailed []*keelsonv1.Pod
	// succeeded and failed are the totals, with those that are not counted yet.
	succeeded, failed int32
	// streak is the run of failures, with the new ones.
	streak streak

	// The rest is for Indexed Jobs. completed is what status says; succeededIndexes and
	// failedIndexes have the new ones, too. failedIndexes is nil without
	// backoffLimitPerIndex.
	completed, succeededIndexes indexes
	failedIndexes               *indexes
	// retained is, for each index that waits for its next Pod, the one that failed last:
	// it stays until the next one has taken over its count of failures.
	retained map[int]*keelsonv1.Pod
}

func (s *snapshot) indexed() bool {
	return *s.job.Spec.CompletionMode == upstreambatchv1.IndexedCompletion
}

func (s *snapshot) perIndex() bool { return s.job.Spec.BackoffLimitPerIndex != nil }

func (s *snapshot) suspended() bool { return *s.job.Spec.Suspend }

func (s *snapshot) deleting() bool { return s.job.DeletionTimestamp != nil }

// replacesFailedOnly says that a Pod which is being deleted still holds its place.
func (s *snapshot) replacesFailedOnly() bool {
	return *s.job.Spec.PodReplacementPolicy == upstreambatchv1.Failed
}

// completions is spec.completions of an Indexed Job.
func (s *snapshot) completions() int { return int(*s.job.Spec.Completions) }

// observe makes the snapshot. job has its defaults. before is the streak of failures
// up to now; known is false when this process does not remember one.
func observe(job *batchv1.Job, pods []*keelsonv1.Pod, before streak, known bool, now time.Time) *snapshot {
	s := &snapshot{job: job, pods: pods, now: now}
	if u := job.Status.UncountedTerminatedPods; u != nil {
		s.uncounted.succeeded, s.uncounted.failed = sets.New(u.Succeeded...), sets.New(u.Failed...)
	}
	for _, pod := range pods {
		switch {
		case podstatus.IsActive(pod):
			s.active = append(s.active, pod)
			if podstatus.IsReady(pod) {
				s.ready++
			}
		case isTerminating(pod):
			s.terminating++
		}
		s.observeEnd(pod)
	}
	s.succeeded = job.Status.Succeeded + int32(len(s.newSucceeded)+len(s.uncounted.succeeded))
	s.failed = job.Status.Failed + int32(s.countFailed(s.newFailed)+len(s.uncounted.failed))
	if !known {
		before = recoverStreak(s)
	}
	s.streak = before.after(s.newSucceeded, s.newFailed)
	if s.indexed() {
		s.observeIndexes()
	}
	return s
}

// observeEnd files pod under newSucceeded or newFailed.
func (s *snapshot) observeEnd(pod *keelsonv1.Pod) {
	if !jobs.IsTracked(pod) || s.indexed() && !s.validIndex(indexOf(pod)) {
		return
	}
	switch {
	case pod.Status.Phase == corev1.PodSucceeded:
		if !s.uncounted.succeeded.Has(pod.UID) {
			s.newSucceeded = append(s.newSucceeded, pod)
		}
	case s.isFailed(pod) && !s.uncounted.failed.Has(pod.UID):
		s.newFailed = append(s.newFailed, pod)
	}
}

func (s *snapshot) countFailed(pods []*keelsonv1.Pod) int {
	n := 0
	for _, pod := range pods {
		if judgeFailure(s.job.Spec.PodFailurePolicy, pod).counts() {
			n++
		}
	}
	return n
}

// isFailed says whether pod is a failure: also while it is being deleted, because then
// it may never come to report one.
func (s *snapshot) isFailed(pod *keelsonv1.Pod) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	return !s.replacesFailedOnly() && pod.DeletionTimestamp != nil && pod.Status.Phase != corev1.PodSucceeded
}

func isTerminating(pod *keelsonv1.Pod) bool {
	return !podstatus.IsFinished(pod) && pod.DeletionTimestamp != nil
}

// recoverStreak reads the failures since the last success from Pods that have been
// counted and are still there: those of an earlier process.
func recoverStreak(s *snapshot) streak {
	var succeeded, failed []*keelsonv1.Pod
	for _, pod := range s.pods {
		if jobs.IsTracked(pod) && !s.uncounted.failed.Has(pod.UID) && !s.uncounted.succeeded.Has(pod.UID) {
			continue
		}
		switch {
		case pod.Status.Phase == corev1.PodSucceeded:
			succeeded = append(succeeded, pod)
		case pod.Status.Phase == corev1.PodFailed && pod.DeletionTimestamp == nil:
			failed = append(failed, pod)
		}
	}
	return streak{}.after(succeeded, failed)
}

func (s *snapshot) validIndex(i int) bool { return i != noIndex && i < s.completions() }

// indexOf is the completion index of pod, or noIndex.
func indexOf(pod *keelsonv1.Pod) int {
	i, err := strconv.Atoi(pod.Annotations[upstreambatchv1.JobCompletionIndexAnnotation])
	if err != nil || i < 0 {
		return noIndex
	}
	return i
}

func indexesOf(pods []*keelsonv1.Pod) sets.Set[int] {
	found := sets.New[int]()
	for _, pod := range pods {
		if i := indexOf(pod); i != noIndex {
			found.Insert(i)
		}
	}
	return found
}

func (s *snapshot) observeIndexes() {
	s.completed = parseIndexes(s.job.Status.CompletedIndexes, s.completions())
	var succeeded []int
	for _, pod := range s.pods {
		if i := indexOf(pod); pod.Status.Phase == corev1.PodSucceeded && s.validIndex(i) && jobs.IsTracked(pod) {
			succeeded = append(succeeded, i)
		}
	}
	s.succeededIndexes = s.completed.with(succeeded...)
	s.succeeded = int32(s.succeededIndexes.total())
	if s.perIndex() {
		s.observeFailedIndexes()
	}
}

func (s *snapshot) observeFailedIndexes() {
	var known indexes
	if text := s.job.Status.FailedIndexes; text != nil {
		known = parseIndexes(*text, s.completions())
	}
	var failed []int
	for _, pod := range s.pods {
		if i := indexOf(pod); s.validIndex(i) && jobs.IsTracked(pod) && s.failsIndex(pod) {
			failed = append(failed, i)
		}
	}
	s.failedIndexes = new(known.with(failed...))
	s.retained = s.planRetained()
}

// failsIndex says whether the end of pod is the last that its index may have.
func (s *snapshot) failsIndex(pod *keelsonv1.Pod) bool {
	if !s.isFailed(pod) {
		return false
	}
	f := judgeFailure(s.job.Spec.PodFailurePolicy, pod)
	if f.action == upstreambatchv1.PodFailurePolicyActionFailIndex {
		return true
	}
	return f.counts() && failureCount(pod) >= *s.job.Spec.BackoffLimitPerIndex
}

func (s *snapshot) planRetained() map[int]*keelsonv1.Pod {
	active := indexesOf(s.active)
	retained := map[int]*keelsonv1.Pod{}
	for _, pod := range s.pods {
		i := indexOf(pod)
		if !s.validIndex(i) || !jobs.IsTracked(pod) || !s.isFailed(pod) {
			continue
		}
		if s.succeededIndexes.has(i) || s.failedIndexes.has(i) || active.Has(i) {
			continue
		}
		if last := retained[i]; last == nil || compareFailures(last, pod) < 0 {
			retained[i] = pod
		}
	}
	return retained
}

// compareFailures orders the failures of one index, the earlier one first, whichever order
// their Pods are listed in. The count decides before the clocks of nodes, because a Pod is
// made with one more than the Pod that it replaces; so a Pod that has lost its count gives
// the index no new tries. Upstream takes the one that is listed first where both disagree.
func compareFailures(a, b *keelsonv1.Pod) int {
	return cmp.Or(
		cmp.Compare(allFailures(a), allFailures(b)),
		endOf(a).Compare(endOf(b)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.UID, b.UID),
	)
}

// failureCount is how often the index of pod had failed before it, as far as that
// counts; allFailures adds the failures that a policy ignores. A count that somebody has
// spoilt is 0.
func failureCount(pod *keelsonv1.Pod) int32 {
	return countIn(pod, upstreambatchv1.JobIndexFailureCountAnnotation)
}

func allFailures(pod *keelsonv1.Pod) int32 {
	return failureCount(pod) + countIn(pod, upstreambatchv1.JobIndexIgnoredFailureCountAnnotation)
}

func countIn(pod *keelsonv1.Pod, annotation string) int32 {
	n, err := strconv.ParseInt(pod.Annotations[annotation], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

// streakOf is the run of failures of one index, whose last Pod is given; nil for none.
func streakOf(last *keelsonv1.Pod) streak {
	if last == nil {
		return streak{}
	}
	return streak{failures: int(allFailures(last)) + 1, last: endOf(last)}
}
