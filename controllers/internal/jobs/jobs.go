// Package jobs holds what several controllers and admission know about Jobs: whether
// one has finished, what upstream's admission defaults in one, and the selector that a
// Job gets from its UID. Every function is pure; there is nothing to recover after a
// crash. It must not decide what a Job's Pods are.
package jobs

import (
	"maps"
	"math"
	"slices"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
)

// DefaultBackoffLimit is spec.backoffLimit of a Job that does not say.
const DefaultBackoffLimit = 6

// Kind is the kind of a Job.
var Kind = batchv1.GroupVersion.WithKind("Job")

// Condition returns the condition of one type, or nil.
func Condition(conditions []upstreambatchv1.JobCondition, conditionType upstreambatchv1.JobConditionType) *upstreambatchv1.JobCondition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

// IsTrue says whether the condition of one type is there and true.
func IsTrue(conditions []upstreambatchv1.JobCondition, conditionType upstreambatchv1.JobConditionType) bool {
	c := Condition(conditions, conditionType)
	return c != nil && c.Status == corev1.ConditionTrue
}

// Finished returns the condition that says how job ended, Complete or Failed; nil while
// it has not.
func Finished(job *batchv1.Job) *upstreambatchv1.JobCondition {
	for i := range job.Status.Conditions {
		c := &job.Status.Conditions[i]
		if (c.Type == upstreambatchv1.JobComplete || c.Type == upstreambatchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c
		}
	}
	return nil
}

// ManagedByOther returns the name of the controller that job is left to, or "" when it
// is ours.
func ManagedByOther(job *batchv1.Job) string {
	if m := job.Spec.ManagedBy; m != nil && *m != upstreambatchv1.JobControllerName {
		return *m
	}
	return ""
}

// Default sets in job what admission would have, for Jobs that no admission has seen:
// those of the manager, and those written while no webhook was there.
func Default(job *batchv1.Job) {
	if len(job.Labels) == 0 && job.Spec.Template.Labels != nil {
		job.Labels = maps.Clone(job.Spec.Template.Labels)
	}
	defaultSpec(&job.Spec)
}

func defaultSpec(spec *upstreambatchv1.JobSpec) {
	if spec.Completions == nil && spec.Parallelism == nil {
		spec.Completions = new(int32(1))
	}
	setDefault(&spec.Parallelism, 1)
	if spec.BackoffLimitPerIndex != nil {
		setDefault(&spec.BackoffLimit, math.MaxInt32)
	}
	setDefault(&spec.BackoffLimit, DefaultBackoffLimit)
	setDefault(&spec.CompletionMode, upstreambatchv1.NonIndexedCompletion)
	setDefault(&spec.Suspend, false)
	setDefault(&spec.ManualSelector, false)
	if spec.PodFailurePolicy != nil {
		setDefault(&spec.PodReplacementPolicy, upstreambatchv1.Failed)
		for i := range spec.PodFailurePolicy.Rules {
			patterns := spec.PodFailurePolicy.Rules[i].OnPodConditions
			for j := range patterns {
				if patterns[j].Status == "" {
					patterns[j].Status = corev1.ConditionTrue
				}
			}
		}
	}
	setDefault(&spec.PodReplacementPolicy, upstreambatchv1.TerminatingOrFailed)
}

func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// NameLabels and UIDLabels are the labels of a Job's Pods that hold its name and its
// UID, the one to select by first.
func NameLabels() []string {
	return []string{upstreambatchv1.JobNameLabel, "job-name"}
}

// UIDLabels are the labels that hold the Job's UID.
func UIDLabels() []string {
	return []string{upstreambatchv1.ControllerUidLabel, "controller-uid"}
}

// Select gives job the selector and its template the labels that follow from its name
// and UID, unless it selects by hand, and says whether anything changed. Admission
// cannot do it: the API server makes the UID afterwards (docs/adr/0018-selectors-of-jobs.md).
func Select(job *batchv1.Job) bool {
	if job.Spec.ManualSelector != nil && *job.Spec.ManualSelector {
		return false
	}
	changed := false
	// A Job that has no labels of its own shows those of its Pods.
	inherits := len(job.Labels) == 0 || maps.Equal(job.Labels, job.Spec.Template.Labels)
	set := func(m *map[string]string, key, value string) {
		if _, found := (*m)[key]; found {
			return
		}
		if *m == nil {
			*m = map[string]string{}
		}
		(*m)[key] = value
		changed = true
	}
	for _, key := range NameLabels() {
		set(&job.Spec.Template.Labels, key, job.Name)
	}
	for _, key := range UIDLabels() {
		set(&job.Spec.Template.Labels, key, string(job.UID))
	}
	if job.Spec.Selector == nil {
		job.Spec.Selector = &metav1.LabelSelector{}
	}
	set(&job.Spec.Selector.MatchLabels, upstreambatchv1.ControllerUidLabel, string(job.UID))
	if changed && inherits {
		job.Labels = maps.Clone(job.Spec.Template.Labels)
	}
	return changed
}

// IsTracked says whether pod has not been counted by its Job yet.
func IsTracked(pod metav1.Object) bool {
	return slices.Contains(pod.GetFinalizers(), upstreambatchv1.JobTrackingFinalizer)
}
