package job

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/test/builders"
	"github.com/keelson-dev/keelson/test/env"
)

func TestAJobRunsToCompletion(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("pi").Namespace(ns).Completions(3).Parallelism(2).Obj()
	testEnv.Create(t, j)

	pods := testEnv.EventuallyActive(t, ns, 2)
	testEnv.Get(t, j)
	uid, label := string(j.UID), upstreambatchv1.ControllerUidLabel
	if diff := cmp.Diff(map[string]string{label: uid}, j.Spec.Selector.MatchLabels); diff != "" {
		t.Errorf("selector (-want +got):\n%s", diff)
	}
	want := map[string]string{label: uid, "controller-uid": uid, "job-name": "pi", upstreambatchv1.JobNameLabel: "pi"}
	for name, got := range map[string]map[string]string{"Job": j.Labels, "template": j.Spec.Template.Labels, "Pod": pods[0].Labels} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("labels of the %s (-want +got):\n%s", name, diff)
		}
	}
	if !isTracked(pods[0]) || !metav1.IsControlledBy(pods[0], j) {
		t.Errorf("Pod: finalizers %v, owners %v", pods[0].Finalizers, pods[0].OwnerReferences)
	}
	for range 3 {
		end(t, testEnv.ActivePods(t, ns)[0], corev1.PodSucceeded, 0)
		env.Eventually(t, func() string {
			for _, pod := range testEnv.Pods(t, ns) {
				if pod.Status.Phase == corev1.PodSucceeded && isTracked(pod) {
					return "a Pod that has ended still has the finalizer"
				}
			}
			return ""
		})
	}
	eventuallyStatus(t, j, finished(upstreambatchv1.JobComplete, upstreambatchv1.JobReasonCompletionsReached))
	if j.Status.Succeeded != 3 || j.Status.Failed != 0 || j.Status.Active != 0 || j.Status.CompletionTime == nil {
		t.Errorf("status %+v", j.Status)
	}
	if j.Status.Summary.Status != "Complete" || j.Status.Summary.Completions != "3/3" {
		t.Errorf("columns %+v", j.Status.Summary)
	}
	if n := len(testEnv.Pods(t, ns)); n != 3 {
		t.Errorf("%d Pods, want 3", n)
	}
	testEnv.EventuallyEvent(t, ns, "Completed", "Job completed")
	testEnv.EventuallyEvent(t, ns, "SuccessfulCreate", "Created pod: pi-")
}

func TestAJobFailsAtItsLimit(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("bad").Namespace(ns).Completions(2).Parallelism(2).BackoffLimit(0).Obj()
	testEnv.Create(t, j)
	pods := testEnv.EventuallyActive(t, ns, 2)
	end(t, pods[0], corev1.PodFailed, 1)
	eventuallyStatus(t, j, finished(upstreambatchv1.JobFailed, upstreambatchv1.JobReasonBackoffLimitExceeded))
	if j.Status.Failed != 2 || !hasCondition(j.Status, upstreambatchv1.JobFailureTarget, upstreambatchv1.JobReasonBackoffLimitExceeded) {
		t.Errorf("status %+v: the Pod that was stopped counts, too", j.Status)
	}
	env.Eventually(t, func() string {
		if left := testEnv.Pods(t, ns); len(left) != 1 || left[0].Name != pods[0].Name {
			return fmt.Sprintf("%d Pods left, want the one that failed", len(left))
		}
		return ""
	})
	testEnv.EventuallyEvent(t, ns, upstreambatchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
}

func TestAnIndexedJobGivesEachIndexAPod(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("ix").Namespace(ns).Indexed().Completions(3).Parallelism(3).Obj()
	testEnv.Create(t, j)
	pods := testEnv.EventuallyActive(t, ns, 3)
	for i, pod := range pods {
		text := fmt.Sprint(i)
		if pod.Labels[upstreambatchv1.JobCompletionIndexAnnotation] != text || pod.Annotations[upstreambatchv1.JobCompletionIndexAnnotation] != text ||
			pod.Spec.Hostname != "ix-"+text || pod.GenerateName != "ix-"+text+"-" {
			t.Errorf("Pod %d: %+v", i, pod.ObjectMeta)
		}
		variable := pod.Spec.Containers[0].Env[len(pod.Spec.Containers[0].Env)-1]
		if variable.Name != "JOB_COMPLETION_INDEX" || variable.ValueFrom.FieldRef.FieldPath != "metadata.labels['batch.kubernetes.io/job-completion-index']" {
			t.Errorf("variable %+v", variable)
		}
	}
	end(t, pods[2], corev1.PodSucceeded, 0)
	end(t, pods[0], corev1.PodSucceeded, 0)
	eventuallyStatus(t, j, func(s batchv1.JobStatus) string {
		if s.CompletedIndexes != "0,2" || s.Succeeded != 2 {
			return "completedIndexes"
		}
		return ""
	})
	end(t, pods[1], corev1.PodSucceeded, 0)
	eventuallyStatus(t, j, finished(upstreambatchv1.JobComplete, upstreambatchv1.JobReasonCompletionsReached))
	if j.Status.CompletedIndexes != "0-2" {
		t.Errorf("completedIndexes %q", j.Status.CompletedIndexes)
	}
}

func TestASuspendedJobHasNoPods(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("s").Namespace(ns).Completions(2).Parallelism(2).Suspend(true).Obj()
	testEnv.Create(t, j)
	eventuallyStatus(t, j, func(s batchv1.JobStatus) string {
		if !hasCondition(s, upstreambatchv1.JobSuspended, "JobSuspended") || s.StartTime != nil {
			return "not suspended"
		}
		return ""
	})
	env.Change(t, &testEnv, j, func(j *batchv1.Job) { j.Spec.Suspend = new(false) })
	testEnv.EventuallyActive(t, ns, 2)
	eventuallyStatus(t, j, func(s batchv1.JobStatus) string {
		if hasCondition(s, upstreambatchv1.JobSuspended, "JobSuspended") || s.StartTime == nil {
			return "not resumed"
		}
		return ""
	})
	env.Change(t, &testEnv, j, func(j *batchv1.Job) { j.Spec.Suspend = new(true) })
	env.Eventually(t, func() string {
		if n := len(testEnv.Pods(t, ns)); n != 0 {
			return fmt.Sprintf("%d Pods are left", n)
		}
		return ""
	})
	eventuallyStatus(t, j, func(s batchv1.JobStatus) string {
		if s.Failed != 0 || s.Active != 0 || s.StartTime != nil {
			return "a Pod that was suspended has not failed"
		}
		return ""
	})
	testEnv.EventuallyEvent(t, ns, "Suspended", "Job suspended")
	testEnv.EventuallyEvent(t, ns, "Resumed", "Job resumed")
}

// Without its Job nobody counts a Pod: the finalizer must not keep it, nor its namespace.
func TestPodsOfADeletedJobCanGo(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("gone").Namespace(ns).Completions(2).Parallelism(2).Obj()
	testEnv.Create(t, j)
	pods := testEnv.EventuallyActive(t, ns, 2)
	testEnv.Delete(t, j, client.PropagationPolicy(metav1.DeletePropagationBackground))
	for _, pod := range pods {
		if err := testEnv.Client.Delete(t.Context(), pod); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
	env.Eventually(t, func() string {
		if n := len(testEnv.Pods(t, ns)); n != 0 {
			return fmt.Sprintf("%d Pods are left", n)
		}
		return ""
	})
	// A Pod that never had a Job.
	lost := builders.MakePod("lost").Namespace(ns).Finalizer(upstreambatchv1.JobTrackingFinalizer).Obj()
	testEnv.Create(t, lost)
	env.Eventually(t, func() string {
		if testEnv.Get(t, lost); isTracked(lost) {
			return "the finalizer is still there"
		}
		return ""
	})
}

func TestAJobAdoptsWithTheFinalizer(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	old := builders.MakePod("old").Namespace(ns).Label("app", "x").Obj()
	testEnv.Create(t, old)
	j := builders.MakeJob("manual").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) {
		s.ManualSelector = new(true)
		s.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
		s.Template.Labels = map[string]string{"app": "x"}
	}).Obj()
	testEnv.Create(t, j)
	env.Eventually(t, func() string {
		if testEnv.Get(t, old); !metav1.IsControlledBy(old, j) || !isTracked(old) {
			return fmt.Sprintf("owners %v, finalizers %v", old.OwnerReferences, old.Finalizers)
		}
		return ""
	})
	end(t, old, corev1.PodSucceeded, 0)
	eventuallyStatus(t, j, finished(upstreambatchv1.JobComplete, upstreambatchv1.JobReasonCompletionsReached))
	if pods := testEnv.Pods(t, ns); len(pods) != 1 || j.Status.Succeeded != 1 {
		t.Errorf("%d Pods, succeeded %d", len(pods), j.Status.Succeeded)
	}
}

func TestADeadlineEndsAJobOnTime(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("late").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(2)) }).Obj()
	testEnv.Create(t, j)
	testEnv.EventuallyActive(t, ns, 1)
	start := time.Now()
	eventuallyStatus(t, j, finished(upstreambatchv1.JobFailed, upstreambatchv1.JobReasonDeadlineExceeded))
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("took %s", took)
	}
	if n := len(testEnv.Pods(t, ns)); n != 0 {
		t.Errorf("%d Pods are left", n)
	}
}

func TestAJobOfAnotherControllerIsLeftToIt(t *testing.T) {
	testEnv.StartManager(t, addController)
	ns := testEnv.Namespace(t)
	j := builders.MakeJob("foreign").Namespace(ns).Spec(func(s *upstreambatchv1.JobSpec) { s.ManagedBy = new("example.com/other") }).Obj()
	testEnv.Create(t, j)
	env.Eventually(t, func() string {
		if testEnv.Get(t, j); j.Spec.Selector == nil {
			return "no selector"
		}
		return ""
	})
	env.Always(t, 500*time.Millisecond, func() string {
		testEnv.Get(t, j)
		if n := len(testEnv.Pods(t, ns)); n != 0 || j.Status.StartTime != nil {
			return fmt.Sprintf("%d Pods, status %+v", n, j.Status)
		}
		return ""
	})
	if err := testEnv.Client.Delete(t.Context(), j); err != nil && !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
}
