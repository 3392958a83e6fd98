package podworker

import (
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Work is what a Pod needs next; it is derived from facts and never stored.
type Work string

const (
	// WorkSync runs the Pod.
	WorkSync Work = "Sync"
	// WorkTerminating stops its containers.
	WorkTerminating Work = "Terminating"
	// WorkTerminated frees what a stopped Pod held.
	WorkTerminated Work = "Terminated"
)

// facts are what is known of a Pod; they only ever become true.
type facts struct {
	// deleted: the API object has a deletion timestamp.
	deleted bool
	// gone: the API has no such object.
	gone bool
	// finished: SyncPod said that it has ended by itself.
	finished bool
	// stopped: nothing of it runs.
	stopped bool
}

func (f facts) work() Work {
	switch {
	case f.stopped:
		return WorkTerminated
	case f.deleted, f.gone, f.finished:
		return WorkTerminating
	default:
		return WorkSync
	}
}

// forget says that nothing of the Pod may stay.
func (f facts) forget() bool { return f.deleted || f.gone }

// GracePeriod is how long the containers of pod may take to stop. The annotation
// keelson.dev/deletion-grace-period-seconds can only shorten what the spec says; a
// negative number means one second, as upstream; a value that is no number counts
// as absent.
func GracePeriod(pod *keelsonv1.Pod) time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		seconds = *s
	}
	if seconds < 0 {
		seconds = 1
	}
	if text, ok := pod.Annotations[keelsonv1.DeletionGracePeriodAnnotation]; ok {
		if override, err := strconv.ParseInt(text, 10, 64); err == nil {
			if override < 0 {
				override = 1
			}
			seconds = min(seconds, override)
		}
	}
	return time.Duration(min(seconds, maxGraceSeconds)) * time.Second
}

// maxGraceSeconds keeps the product with a second inside a Duration.
const maxGraceSeconds = int64(1 << 31)

// significant says that the worker has to look at the Pod again: status writes of
// this agent come back as updates and are not.
func significant(before, after *keelsonv1.Pod) bool {
	return before == nil ||
		before.Generation != after.Generation ||
		before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
		!maps.Equal(before.Annotations, after.Annotations) ||
		!maps.Equal(before.Labels, after.Labels) ||
		foreignConditions(before) != foreignConditions(after)
}

// foreignConditions counts true readiness gates, which others write.
func foreignConditions(pod *keelsonv1.Pod) int {
	count := 0
	for _, gate := range pod.Spec.ReadinessGates {
		for _, c := range pod.Status.Conditions {
			if c.Type == gate.ConditionType && c.Status == corev1.ConditionTrue {
				count++
			}
		}
	}
	return count
}
