package job

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
	"github.com/keelson-dev/keelson/test/builders"
)

// brief is the status in one line.
func brief(s *batchv1.JobStatus) string {
	line := fmt.Sprintf("active=%d ready=%d terminating=%d succeeded=%d failed=%d", s.Active, *s.Ready, *s.Terminating, s.Succeeded, s.Failed)
	if s.CompletedIndexes != "" {
		line += " completed=" + s.CompletedIndexes
	}
	if s.FailedIndexes != nil {
		line += " failedIndexes=" + *s.FailedIndexes
	}
	for _, c := range s.Conditions {
		if c.Status == corev1.ConditionTrue {
			line += fmt.Sprintf(" %s(%s)", c.Type, c.Reason)
		}
	}
	return line
}

func (w *world) expect(want string) {
	w.t.Helper()
	if diff := cmp.Diff(want, brief(&w.job().Status)); diff != "" {
		w.t.Fatalf("status (-want +got):\n%s", diff)
	}
}

// at returns the active Pod of an index.
func (w *world) at(index int) *keelsonv1.Pod {
	w.t.Helper()
	for _, pod := range w.active() {
		if indexOf(pod) == index {
			return pod
		}
	}
	w.t.Fatalf("no active Pod of index %d", index)
	return nil
}

func TestStories(t *testing.T) {
	for name, story := range map[string]func(t *testing.T){
		"a failure is waited for, longer each time": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).Obj())
			w.settle()
			for _, seconds := range []int{10, 20, 40} {
				w.end(w.active()[0], corev1.PodFailed, 1)
				if wait := w.settle(); wait != time.Duration(seconds)*time.Second || len(w.active()) != 0 {
					t.Fatalf("wait %s with %d active, want %d s", wait, len(w.active()), seconds)
				}
				// A new process knows it, too.
				w.restart()
				if wait := w.settle(); wait != time.Duration(seconds)*time.Second {
					t.Fatalf("after a restart: wait %s, want %d s", wait, seconds)
				}
				w.pass(time.Duration(seconds) * time.Second)
				w.settle()
			}
			w.expect("active=1 ready=0 terminating=0 succeeded=0 failed=3")
		},
		"a queue of work ends when its Pods do": func(t *testing.T) {
			w := newWorld(t, builders.MakeJob("pi").UID("job").Parallelism(3).Obj())
			w.settle()
			pods := w.active()
			w.end(pods[0], corev1.PodSucceeded, 0)
			w.settle()
			w.expect("active=2 ready=0 terminating=0 succeeded=1 failed=0")
			w.end(pods[1], corev1.PodSucceeded, 0)
			w.end(pods[2], corev1.PodFailed, 1)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=2 failed=1 SuccessCriteriaMet(CompletionsReached) Complete(CompletionsReached)")
		},
		"less parallelism, fewer Pods, and none of them failed": func(t *testing.T) {
			w := newWorld(t, makeJob(5, 4).Obj())
			w.settle()
			w.edit(func(s *upstreambatchv1.JobSpec) { s.Parallelism = new(int32(1)) })
			w.settle()
			w.expect("active=1 ready=0 terminating=0 succeeded=0 failed=0")
			if n := len(w.pods()); n != 1 {
				t.Errorf("%d Pods, want 1", n)
			}
		},
		"per index: an index fails alone, the others go on": func(t *testing.T) {
			w := newWorld(t, makeJob(3, 3).Indexed().Spec(func(s *upstreambatchv1.JobSpec) { s.BackoffLimitPerIndex = new(int32(1)) }).Obj())
			w.settle()
			w.end(w.at(1), corev1.PodFailed, 1)
			if wait := w.settle(); wait != firstBackoff {
				t.Fatalf("wait %s", wait)
			}
			w.expect("active=2 ready=0 terminating=0 succeeded=0 failed=0 failedIndexes=")
			w.pass(firstBackoff)
			w.settle()
			if again := w.at(1); again.Annotations[upstreambatchv1.JobIndexFailureCountAnnotation] != "1" {
				t.Fatalf("annotations %v", again.Annotations)
			}
			w.expect("active=3 ready=0 terminating=0 succeeded=0 failed=1 failedIndexes=")
			w.end(w.at(1), corev1.PodFailed, 1)
			w.settle()
			w.expect("active=2 ready=0 terminating=0 succeeded=0 failed=2 failedIndexes=1")
			w.end(w.at(0), corev1.PodSucceeded, 0)
			w.end(w.at(2), corev1.PodSucceeded, 0)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=2 failed=2 completed=0,2 failedIndexes=1 FailureTarget(FailedIndexes) Failed(FailedIndexes)")
		},
		"per index: too many fail": func(t *testing.T) {
			w := newWorld(t, makeJob(4, 4).Indexed().Spec(func(s *upstreambatchv1.JobSpec) {
				s.BackoffLimitPerIndex, s.MaxFailedIndexes = new(int32(0)), new(int32(1))
			}).Obj())
			w.settle()
			w.end(w.at(0), corev1.PodFailed, 1)
			w.settle()
			w.expect("active=3 ready=0 terminating=0 succeeded=0 failed=1 failedIndexes=0")
			w.end(w.at(2), corev1.PodFailed, 1)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=4 failedIndexes=0,2 FailureTarget(MaxFailedIndexesExceeded) Failed(MaxFailedIndexesExceeded)")
		},
		"an ignored failure counts for nothing": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).BackoffLimit(0).Spec(func(s *upstreambatchv1.JobSpec) {
				s.PodFailurePolicy = &upstreambatchv1.PodFailurePolicy{Rules: []upstreambatchv1.PodFailurePolicyRule{
					onExit(upstreambatchv1.PodFailurePolicyActionIgnore, upstreambatchv1.PodFailurePolicyOnExitCodesOpIn, nil, 3),
				}}
			}).Obj())
			w.settle()
			w.end(w.active()[0], corev1.PodFailed, 3)
			w.settle()
			w.pass(firstBackoff)
			w.settle()
			w.expect("active=1 ready=0 terminating=0 succeeded=0 failed=0")
			w.end(w.active()[0], corev1.PodFailed, 4)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=1 FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded)")
		},
		"the success policy stops the rest, which did not fail": func(t *testing.T) {
			w := newWorld(t, makeJob(4, 4).Indexed().Spec(func(s *upstreambatchv1.JobSpec) {
				s.SuccessPolicy = &upstreambatchv1.SuccessPolicy{Rules: []upstreambatchv1.SuccessPolicyRule{{SucceededIndexes: new("0")}}}
			}).Obj())
			w.settle()
			w.end(w.at(0), corev1.PodSucceeded, 0)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=1 failed=0 completed=0 SuccessCriteriaMet(SuccessPolicy) Complete(SuccessPolicy)")
		},
		"an elastic Job shrinks and grows": func(t *testing.T) {
			w := newWorld(t, makeJob(4, 4).Indexed().Obj())
			w.settle()
			w.end(w.at(3), corev1.PodSucceeded, 0)
			w.settle()
			w.expect("active=3 ready=0 terminating=0 succeeded=1 failed=0 completed=3")
			w.edit(func(s *upstreambatchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(2)), new(int32(2)) })
			w.settle()
			w.expect("active=2 ready=0 terminating=0 succeeded=0 failed=0")
			w.edit(func(s *upstreambatchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(3)), new(int32(3)) })
			w.settle()
			w.expect("active=3 ready=0 terminating=0 succeeded=0 failed=0")
		},
		"replacing failed Pods only waits for those that go": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).Spec(func(s *upstreambatchv1.JobSpec) { s.PodReplacementPolicy = new(upstreambatchv1.Failed) }).Obj())
			w.settle()
			pod := w.active()[0]
			if err := w.client.Delete(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.expect("active=0 ready=0 terminating=1 succeeded=0 failed=0")
			pod = w.pods()[0]
			w.end(pod, corev1.PodFailed, 1)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=1")
			w.pass(firstBackoff)
			w.settle()
			w.expect("active=1 ready=0 terminating=0 succeeded=0 failed=1")
		},
		"a Pod that is deleted has failed": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).Obj())
			w.settle()
			if err := w.client.Delete(t.Context(), w.active()[0]); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=1")
		},
		"restarts on the node count where containers restart": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).BackoffLimit(2).Spec(func(s *upstreambatchv1.JobSpec) {
				s.Template.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
			}).Obj())
			w.settle()
			pod := w.active()[0]
			pod.Status.Phase = corev1.PodRunning
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: 2}}
			if err := w.client.Status().Update(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=1 FailureTarget(BackoffLimitExceeded) Failed(BackoffLimitExceeded)")
		},
		"the deadline counts while the Job is active": func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).Suspend(true).Spec(func(s *upstreambatchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(60)) }).Obj())
			w.settle()
			w.pass(time.Hour)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=0 Suspended(JobSuspended)")
			w.edit(func(s *upstreambatchv1.JobSpec) { s.Suspend = new(false) })
			w.settle()
			w.pass(59 * time.Second)
			if wait := w.settle(); wait != time.Second {
				t.Fatalf("wait %s, want a second", wait)
			}
			w.pass(time.Second)
			w.settle()
			w.expect("active=0 ready=0 terminating=0 succeeded=0 failed=1 FailureTarget(DeadlineExceeded) Failed(DeadlineExceeded)")
		},
	} {
		t.Run(name, story)
	}
}

func TestAJobThatCannotRunSaysSo(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*upstreambatchv1.JobSpec)
		want   string
	}{
		"a selector that does not match": {func(s *upstreambatchv1.JobSpec) { s.ManualSelector = new(true) }, "spec.selector"},
		"an unknown mode":                {func(s *upstreambatchv1.JobSpec) { s.CompletionMode = new(upstreambatchv1.CompletionMode("Odd")) }, `"Odd" is unknown`},
		"indexes without an end": {func(s *upstreambatchv1.JobSpec) {
			s.CompletionMode, s.Completions = new(upstreambatchv1.IndexedCompletion), nil
		}, "spec.completions is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, makeJob(1, 1).Spec(tc.change).Obj())
			w.settle()
			if n := len(w.pods()); n != 0 {
				t.Errorf("%d Pods", n)
			}
			if said := strings.Join(w.said(), "\n"); !strings.Contains(said, tc.want) {
				t.Errorf("said %q, want %q", said, tc.want)
			}
		})
	}
}

// An idle Job writes nothing.
func TestASettledJobWritesNothing(t *testing.T) {
	w := newWorld(t, makeJob(3, 2).Obj())
	w.settle()
	w.writesLeft = 0
	for range 3 {
		w.pass(time.Minute)
		if _, err := w.reconcile(); err != nil {
			t.Fatal(err)
		}
	}
}

// A process that died while it scaled down leaves an active Pod that nobody would count.
func TestAPodWithoutTheFinalizerIsRemoved(t *testing.T) {
	w := newWorld(t, makeJob(3, 2).Obj())
	w.settle()
	half := w.active()[0]
	half.Finalizers = nil
	if err := w.client.Update(t.Context(), half); err != nil {
		t.Fatal(err)
	}
	w.settle()
	for _, pod := range w.active() {
		if pod.Name == half.Name || !jobs.IsTracked(pod) {
			t.Errorf("Pod %s is still there", pod.Name)
		}
	}
	w.expect("active=2 ready=0 terminating=0 succeeded=0 failed=0")
}
