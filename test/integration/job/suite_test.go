// Package job tests the controllers of Jobs, CronJobs and of Jobs whose time has passed
// against a real API server, inside a running manager.
package job

import (
	"fmt"
	"os"
	"slices"
	"testing"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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

func isTracked(pod client.Object) bool {
	return slices.Contains(pod.GetFinalizers(), upstreambatchv1.JobTrackingFinalizer)
}
