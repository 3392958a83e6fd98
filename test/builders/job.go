package builders

import (
	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// JobBuilder builds a Job.
type JobBuilder struct{ job batchv1.Job }

// MakeJob starts a Job with a Pod that never restarts; nothing else is set.
func MakeJob(name string) *JobBuilder {
	b := &JobBuilder{}
	b.job.Name, b.job.Namespace = name, DefaultNamespace
	b.job.Spec.Template.Spec = MakePod("").Obj().Spec
	b.job.Spec.Template.Spec.RestartPolicy = corev1.RestartPolicyNever
	return b
}

// Obj returns the Job.
func (b *JobBuilder) Obj() *batchv1.Job { return b.job.DeepCopy() }

// Namespace sets the namespace.
func (b *JobBuilder) Namespace(ns string) *JobBuilder { b.job.Namespace = ns; return b }

// UID sets the UID, as the API server would.
func (b *JobBuilder) UID(uid string) *JobBuilder { b.job.UID = types.UID(uid); return b }

// Completions sets how many Pods have to succeed.
func (b *JobBuilder) Completions(n int32) *JobBuilder { b.job.Spec.Completions = &n; return b }

// Parallelism sets how many Pods run at once.
func (b *JobBuilder) Parallelism(n int32) *JobBuilder { b.job.Spec.Parallelism = &n; return b }

// BackoffLimit sets how many Pods may fail.
func (b *JobBuilder) BackoffLimit(n int32) *JobBuilder { b.job.Spec.BackoffLimit = &n; return b }

// Indexed gives each Pod a completion index.
func (b *JobBuilder) Indexed() *JobBuilder {
	b.job.Spec.CompletionMode = new(upstreambatchv1.IndexedCompletion)
	return b
}

// Suspend sets spec.suspend.
func (b *JobBuilder) Suspend(suspend bool) *JobBuilder { b.job.Spec.Suspend = &suspend; return b }

// Spec changes the spec.
func (b *JobBuilder) Spec(change func(*upstreambatchv1.JobSpec)) *JobBuilder {
	change(&b.job.Spec)
	return b
}

// Status changes the status.
func (b *JobBuilder) Status(change func(*upstreambatchv1.JobStatus)) *JobBuilder {
	change(&b.job.Status.JobStatus)
	return b
}

// Condition adds a condition that is true.
func (b *JobBuilder) Condition(conditionType upstreambatchv1.JobConditionType, reason, message string, at metav1.Time) *JobBuilder {
	b.job.Status.Conditions = append(b.job.Status.Conditions, upstreambatchv1.JobCondition{
		Type: conditionType, Status: corev1.ConditionTrue, Reason: reason, Message: message,
		LastProbeTime: at, LastTransitionTime: at,
	})
	return b
}
