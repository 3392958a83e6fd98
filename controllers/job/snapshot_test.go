package job

import (
	"iter"
	"slices"
	"strconv"
	"testing"
	"time"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/test/builders"
)

// The failure whose count goes on is the same one in whichever order the cache lists them.
func TestTheLastFailureOfAnIndex(t *testing.T) {
	const none = -1
	pod := func(uid types.UID, count, ignored int, ended int64) *keelsonv1.Pod {
		b := builders.MakePod(string(uid)).Finalizer(upstreambatchv1.JobTrackingFinalizer).Annotation(upstreambatchv1.JobCompletionIndexAnnotation, "0").Phase(corev1.PodFailed)
		if count != none {
			b.Annotation(upstreambatchv1.JobIndexFailureCountAnnotation, strconv.Itoa(count))
		}
		if ignored != none {
			b.Annotation(upstreambatchv1.JobIndexIgnoredFailureCountAnnotation, strconv.Itoa(ignored))
		}
		pod := b.Obj()
		pod.UID = uid
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.Unix(ended, 0)}}}}
		return pod
	}
	made := func(pod *keelsonv1.Pod, at int64) *keelsonv1.Pod {
		pod.CreationTimestamp = metav1.Unix(at, 0)
		return pod
	}
	tests := map[string]struct {
		pods []*keelsonv1.Pod
		want types.UID
	}{
		"one alone": {[]*keelsonv1.Pod{pod("a", 0, none, 10)}, "a"},
		"the one that failed more often, and later":  {[]*keelsonv1.Pod{pod("a", 0, none, 10), pod("b", 1, none, 20)}, "b"},
		"failures that a policy ignores count":       {[]*keelsonv1.Pod{pod("a", 1, none, 10), pod("b", 1, 1, 20)}, "b"},
		"the one that ended later, of one count":     {[]*keelsonv1.Pod{pod("a", 1, none, 20), pod("b", 1, none, 10)}, "a"},
		"the count, where the clocks disagree":       {[]*keelsonv1.Pod{pod("a", 2, none, 10), pod("b", 1, none, 20)}, "a"},
		"the count, where a later one has lost it":   {[]*keelsonv1.Pod{pod("a", 2, none, 10), pod("b", none, none, 20)}, "a"},
		"three of which each pair disagrees":         {[]*keelsonv1.Pod{pod("a", 2, none, 10), pod("b", 1, none, 20), pod("c", none, none, 30)}, "a"},
		"the one that was made later, of one moment": {[]*keelsonv1.Pod{made(pod("a", 1, none, 10), 9), made(pod("b", 1, none, 10), 8)}, "a"},
		"always the same one, of equals":             {[]*keelsonv1.Pod{pod("a", 1, none, 10), pod("b", 1, none, 10)}, "b"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			job := builders.MakeJob("one").Obj()
			job.Spec.CompletionMode, job.Spec.Completions = new(upstreambatchv1.IndexedCompletion), new(int32(1))
			job.Spec.BackoffLimitPerIndex = new(int32(9))
			for order := range orders(tc.pods) {
				var listed []types.UID
				for _, p := range order {
					listed = append(listed, p.UID)
				}
				s := observe(job, order, streak{}, true, time.Unix(100, 0))
				if got := s.retained[0]; got == nil || got.UID != tc.want {
					t.Errorf("of Pods listed as %v another one is the last, want %s", listed, tc.want)
				}
			}
		})
	}
}

// orders yields the Pods in every order.
func orders(pods []*keelsonv1.Pod) iter.Seq[[]*keelsonv1.Pod] {
	return func(yield func([]*keelsonv1.Pod) bool) {
		if len(pods) < 2 {
			yield(pods)
			return
		}
		for i, first := range pods {
			for rest := range orders(slices.Concat(pods[:i], pods[i+1:])) {
				if !yield(slices.Concat([]*keelsonv1.Pod{first}, rest)) {
					return
				}
			}
		}
	}
}
