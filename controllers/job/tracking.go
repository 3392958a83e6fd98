package job

import (
	"cmp"
	"slices"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// A Pod that has ended is counted in three writes, so that no crash between two of them
// counts it twice or not at all:
//
//  1. its UID goes to status.uncountedTerminatedPods (its index to completedIndexes),
//  2. its finalizer batch.kubernetes.io/job-tracking is removed,
//  3. its UID leaves the status, and the counter grows by one.
//
// Before 1 the finalizer keeps the Pod; between 1 and 2 both are there and 1 is not
// repeated; after 2 a UID without a Pod that has the finalizer says: count me.

// tracking is one round of counting.
type tracking struct {
	// Release are the Pods whose finalizer is to be removed, once status is written.
	Release []*keelsonv1.Pod
	// Counted are those of them that this round counts for the first time.
	Counted []*keelsonv1.Pod
	// Full says that more is left for the next round.
	Full bool
}

// planTracking writes into status what step 1 says, and returns what step 2 has to do.
// end is the verdict, nil while the Job goes on.
func planTracking(s *snapshot, status *upstreambatchv1.JobStatus, end *verdict) tracking {
	var plan tracking
	uncounted := status.UncountedTerminatedPods
	var succeeded []int
	for _, pod := range s.inOrder() {
		if !jobs.IsTracked(pod) || !s.releasable(pod, end) {
			continue
		}
		plan.Release = append(plan.Release, pod)
		switch s.counterOf(pod, end) {
		case countsSuccess:
			uncounted.Succeeded = append(uncounted.Succeeded, pod.UID)
			plan.Counted = append(plan.Counted, pod)
		case countsIndex:
			succeeded = append(succeeded, indexOf(pod))
			plan.Counted = append(plan.Counted, pod)
		case countsFailure:
			uncounted.Failed = append(uncounted.Failed, pod.UID)
			plan.Counted = append(plan.Counted, pod)
		}
		if len(succeeded)+len(uncounted.Succeeded)+len(uncounted.Failed) >= burst {
			plan.Full = true
			break
		}
	}
	if s.indexed() {
		completed := s.completed.with(succeeded...)
		status.CompletedIndexes, status.Succeeded = completed.String(), int32(completed.total())
		status.FailedIndexes = nil
		if s.failedIndexes != nil {
			status.FailedIndexes = new(s.failedIndexes.String())
		}
	}
	return plan
}

// inOrder puts Pods of low indexes first, so that completedIndexes stays short.
func (s *snapshot) inOrder() []*keelsonv1.Pod {
	if !s.indexed() {
		return s.pods
	}
	ordered := slices.Clone(s.pods)
	slices.SortStableFunc(ordered, func(a, b *keelsonv1.Pod) int { return cmp.Compare(indexOf(a), indexOf(b)) })
	return ordered
}

// releasable says whether pod no longer needs its finalizer once it is counted.
func (s *snapshot) releasable(pod *keelsonv1.Pod, end *verdict) bool {
	if s.deleting() || end != nil || pod.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return s.isFailed(pod) && s.retained[indexOf(pod)] != pod
}

type counter int

const (
	countsNothing counter = iota
	countsSuccess
	countsIndex
	countsFailure
)

// counterOf says where pod has to be counted in this round.
func (s *snapshot) counterOf(pod *keelsonv1.Pod, end *verdict) counter {
	index := indexOf(pod)
	known := s.uncounted.succeeded.Has(pod.UID) || s.uncounted.failed.Has(pod.UID)
	valid := !s.indexed() || s.validIndex(index)
	switch {
	case known || !valid:
		return countsNothing
	case pod.Status.Phase == corev1.PodSucceeded:
		switch {
		case !s.indexed():
			return countsSuccess
		case !s.completed.has(index):
			return countsIndex
		}
		return countsNothing
	case s.isFailed(pod) || end != nil && !isSuccess(end):
		// A Job that fails counts what it had to stop, too.
		if judgeFailure(s.job.Spec.PodFailurePolicy, pod).counts() {
			return countsFailure
		}
	}
	return countsNothing
}

// count does step 3 for every UID that is not in tracked, the Pods that still have the
// finalizer.
func count(status *upstreambatchv1.JobStatus, tracked sets.Set[types.UID]) {
	take := func(uids *[]types.UID, counter *int32) {
		left := slices.DeleteFunc(slices.Clone(*uids), func(uid types.UID) bool { return !tracked.Has(uid) })
		*counter += int32(len(*uids) - len(left))
		*uids = left
		if len(left) == 0 {
			*uids = nil
		}
	}
	uncounted := status.UncountedTerminatedPods
	take(&uncounted.Succeeded, &status.Succeeded)
	take(&uncounted.Failed, &status.Failed)
}

// trackedUIDs are those of the Pods that have the finalizer.
func (s *snapshot) trackedUIDs() sets.Set[types.UID] {
	tracked := sets.New[types.UID]()
	for _, pod := range s.pods {
		if jobs.IsTracked(pod) {
			tracked.Insert(pod.UID)
		}
	}
	return tracked
}
