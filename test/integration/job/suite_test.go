// Package job tests the controllers of Jobs, CronJobs and of Jobs whose time has passed
// against a real API server, inside a running manager.
package job

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/job"
	"github.com/keelson-dev/keelson/test/env"
)

var testEnv env.Environment

func TestMain(m *testing.M) { os.Exit(env.Run(m, &testEnv)) }

func addController(mgr ctrl.Manager) error { return job.Add(mgr, job.Options{}) }

func create(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, obj client.Object) {
	t.Helper()
	if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
}

// change patches obj as it is stored now.
func change[T client.Object](t *testing.T, obj T, how func(T)) {
	t.Helper()
	get(t, obj)
	before := obj.DeepCopyObject().(client.Object)
	how(obj)
	if err := testEnv.Client.Patch(t.Context(), obj, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, obj client.Object, opts ...client.DeleteOption) {
	t.Helper()
	if err := testEnv.Client.Delete(t.Context(), obj, opts...); err != nil {
		t.Fatal(err)
	}
}

func podsOf(t testing.TB, ns string) []*keelsonv1.Pod {
	t.Helper()
	var list keelsonv1.PodList
	if err := testEnv.Client.List(context.WithoutCancel(t.Context()), &list, client.InNamespace(ns)); err != nil {
		t.Fatal(err)
	}
	var pods []*keelsonv1.Pod
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	slices.SortFunc(pods, func(a, b *keelsonv1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func activeOf(t testing.TB, ns string) []*keelsonv1.Pod {
	t.Helper()
	return slices.DeleteFunc(podsOf(t, ns), func(p *keelsonv1.Pod) bool {
		return p.DeletionTimestamp != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// eventuallyActive waits until exactly want Pods are active, and returns them.
func eventuallyActive(t *testing.T, ns string, want int) (pods []*keelsonv1.Pod) {
	t.Helper()
	env.Eventually(t, func() string {
		if pods = activeOf(t, ns); len(pods) != want {
			return fmt.Sprintf("%d active Pods, want %d", len(pods), want)
		}
		return ""
	})
	return pods
}

// end reports that pod has ended, as its node's agent would.
func end(t *testing.T, pod *keelsonv1.Pod, phase corev1.PodPhase, exitCode int32) {
	t.Helper()
	before := pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exitCode}},
	}}
	if err := testEnv.Client.Status().Patch(t.Context(), pod, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// eventuallyStatus waits until check has no complaint about the status of a Job.
func eventuallyStatus(t *testing.T, j *batchv1.Job, check func(batchv1.JobStatus) string) {
	t.Helper()
	env.Eventually(t, func() string {
		fresh := &batchv1.Job{}
		if err := testEnv.Client.Get(t.Context(), client.ObjectKeyFromObject(j), fresh); err != nil {
			return err.Error()
		}
		if complaint := check(fresh.Status); complaint != "" {
			return fmt.Sprintf("%s; status %+v", complaint, fresh.Status)
		}
		*j = *fresh
		return ""
	})
}

func hasCondition(s batchv1.JobStatus, conditionType upstreambatchv1.JobConditionType, reason string) bool {
	return slices.ContainsFunc(s.Conditions, func(c upstreambatchv1.JobCondition) bool {
		return c.Type == conditionType && c.Status == corev1.ConditionTrue && c.Reason == reason
	})
}

// finished complains until the Job has ended in this way.
func finished(conditionType upstreambatchv1.JobConditionType, reason string) func(batchv1.JobStatus) string {
	return func(s batchv1.JobStatus) string {
		if !hasCondition(s, conditionType, reason) {
			return fmt.Sprintf("not %s (%s)", conditionType, reason)
		}
		return ""
	}
}

// eventuallyEvent waits for an event of this reason whose note contains text.
func eventuallyEvent(t *testing.T, ns, reason, text string) {
	t.Helper()
	env.Eventually(t, func() string {
		var list eventsv1.EventList
		if err := testEnv.Client.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			return err.Error()
		}
		var seen []string
		for _, e := range list.Items {
			if e.Reason == reason && strings.Contains(e.Note, text) {
				return ""
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return fmt.Sprintf("no event %s with %q: %q", reason, text, seen)
	})
}

func isTracked(pod client.Object) bool {
	return slices.Contains(pod.GetFinalizers(), upstreambatchv1.JobTrackingFinalizer)
}
