package job

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
)

// A Pod that takes the place of a failed one is made 10 s after the failure, then 20 s,
// 40 s, … up to 10 minutes; a success starts the count again.
const (
	firstBackoff   = 10 * time.Second
	longestBackoff = 10 * time.Minute
)

// streak is the run of failures since the last success.
type streak struct {
	failures int
	// last is when the last of them ended; it means nothing without failures.
	last time.Time
}

// wait is how long no Pod may be made, from now on.
func (s streak) wait(now time.Time) time.Duration {
	if s.failures == 0 {
		return 0
	}
	delay := firstBackoff
	for i := 1; i < s.failures && delay < longestBackoff; i++ {
		delay *= 2
	}
	return max(0, min(delay, longestBackoff)-now.Sub(s.last))
}

// after returns the streak once more Pods have ended.
func (s streak) after(succeeded, failed []*keelsonv1.Pod) streak {
	var since time.Time
	if len(succeeded) > 0 {
		s = streak{}
		for _, pod := range succeeded {
			since = latest(since, endOf(pod))
		}
	}
	for _, pod := range failed {
		if end := endOf(pod); len(succeeded) == 0 || end.After(since) {
			s.failures++
			s.last = latest(s.last, end)
		}
	}
	return s
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// endOf is when pod ended: by its containers, else by its condition Ready, else by its
// deletion, else (which cannot be where an agent or the Pod garbage collector works)
// when it was made.
func endOf(pod *keelsonv1.Pod) time.Time {
	if end, ok := endOfContainers(pod); ok {
		return end
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
			return c.LastTransitionTime.Time
		}
	}
	if pod.DeletionTimestamp != nil {
		grace := time.Duration(0)
		if pod.DeletionGracePeriodSeconds != nil {
			grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
		}
		return pod.DeletionTimestamp.Add(-grace)
	}
	return pod.CreationTimestamp.Time
}

// endOfContainers looks at sidecars, too: they end last. ok is false while one runs.
func endOfContainers(pod *keelsonv1.Pod) (end time.Time, ok bool) {
	statuses := slices.Clone(pod.Status.ContainerStatuses)
	for i := range pod.Status.InitContainerStatuses {
		if s := &pod.Status.InitContainerStatuses[i]; podstatus.IsSidecar(pod, s.Name) {
			statuses = append(statuses, *s)
		}
	}
	for i := range statuses {
		ended := statuses[i].State.Terminated
		if ended == nil || ended.FinishedAt.IsZero() {
			return time.Time{}, false
		}
		end = latest(end, ended.FinishedAt.Time)
	}
	return end, len(statuses) > 0
}

// streaks remembers the streak of each Job. What a restart forgets is found again in
// the Pods that are still there (recoverStreak).
type streaks struct {
	mu  sync.Mutex
	all map[types.NamespacedName]remembered
}

type remembered struct {
	uid types.UID
	streak
}

func newStreaks() *streaks { return &streaks{all: map[types.NamespacedName]remembered{}} }

// get returns the streak of the Job of this name and UID.
func (s *streaks) get(job types.NamespacedName, uid types.UID) (found streak, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.all[job]
	return r.streak, ok && r.uid == uid
}

func (s *streaks) set(job types.NamespacedName, uid types.UID, value streak) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[job] = remembered{uid: uid, streak: value}
}

func (s *streaks) forget(job types.NamespacedName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, job)
}
