package admission

import (
	"context"
	"fmt"
	"maps"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	batchv1 "github.com/keelson-dev/keelson/apis/batch/v1"
	"github.com/keelson-dev/keelson/apis/support"
	"github.com/keelson-dev/keelson/controllers/internal/jobs"
)

// prepareJob keeps the selector and the labels that follow from a Job's UID out of the
// dry run, which makes a Job of another UID, and of another name where the name is taken
// (docs/adr/0018-selectors-of-jobs.md).
func prepareJob(probe tree, old []byte) error {
	spec := probe.child("spec")
	if manual, _ := spec["manualSelector"].(bool); spec == nil || manual {
		return nil
	}
	labels := spec.child("template").child("metadata").child("labels")
	if old == nil {
		for _, key := range jobs.NameLabels() {
			if labels.text(key) == probe.child("metadata").text("name") {
				delete(labels, key)
			}
		}
		return nil
	}
	if _, selects := spec["selector"].(map[string]any); selects {
		// Both are what the Job has been given once: to be judged as they are.
		spec["manualSelector"] = true
		return nil
	}
	for _, key := range append(jobs.NameLabels(), jobs.UIDLabels()...) {
		delete(labels, key)
	}
	return nil
}

// reviewJob gives the Job back what prepareJob set aside, and applies the rules for
// updates.
func reviewJob(_ context.Context, c change) (outcome, error) {
	user, job, old, err := decodeAll[batchv1.Job](c)
	if err != nil {
		return outcome{}, err
	}
	if c.answer != nil {
		restoreSelector(job, user, old != nil)
	}
	errs := support.CheckJob(&job.Spec, specPath)
	set := map[string]any{"spec": job.Spec}
	if old == nil {
		set["metadata"] = setMetadata(job.Labels, nil, nil)
	} else {
		errs = ratchet(errs, support.CheckJob(&old.Spec, specPath))
		if c.answer != nil {
			errs = append(errs, checkJobUpdate(&job.Spec, old)...)
		}
	}
	return outcome{set: set, errors: errs}, nil
}

func restoreSelector(job, user *batchv1.Job, update bool) {
	manual := user.Spec.ManualSelector
	if manual != nil && *manual {
		return
	}
	if update {
		job.Spec.ManualSelector = manual
		if manual == nil {
			job.Spec.ManualSelector = new(false)
		}
	}
	job.Spec.Selector, job.Spec.Template.Labels = user.Spec.Selector, user.Spec.Template.Labels
	if len(user.Labels) == 0 {
		job.Labels = maps.Clone(user.Spec.Template.Labels)
	}
}

// checkJobUpdate fixes what upstream fixes in a Job
// (ValidateJobSpecUpdate in pkg/apis/batch/validation).
func checkJobUpdate(spec *upstreambatchv1.JobSpec, old *batchv1.Job) field.ErrorList {
	was := &old.Spec
	same := equality.Semantic.DeepEqual
	errs := checkCompletions(spec, was)
	errs = append(errs, fixed(same(spec.Selector, was.Selector), specPath.Child("selector"), spec.Selector)...)
	errs = append(errs, checkJobTemplate(spec, old)...)
	errs = append(errs, fixed(same(spec.CompletionMode, was.CompletionMode), specPath.Child("completionMode"), spec.CompletionMode)...)
	errs = append(errs, fixed(same(spec.PodFailurePolicy, was.PodFailurePolicy), specPath.Child("podFailurePolicy"), spec.PodFailurePolicy)...)
	errs = append(errs, fixed(same(spec.BackoffLimitPerIndex, was.BackoffLimitPerIndex), specPath.Child("backoffLimitPerIndex"), spec.BackoffLimitPerIndex)...)
	errs = append(errs, fixed(same(spec.ManagedBy, was.ManagedBy), specPath.Child("managedBy"), spec.ManagedBy)...)
	return append(errs, fixed(same(spec.SuccessPolicy, was.SuccessPolicy), specPath.Child("successPolicy"), spec.SuccessPolicy)...)
}

// checkCompletions lets an Indexed Job grow and shrink, parallelism with completions.
func checkCompletions(spec, old *upstreambatchv1.JobSpec) field.ErrorList {
	path := specPath.Child("completions")
	same := equality.Semantic.DeepEqual(spec.Completions, old.Completions)
	indexed := spec.CompletionMode != nil && *spec.CompletionMode == upstreambatchv1.IndexedCompletion
	switch {
	case same || !indexed:
		return fixed(same, path, spec.Completions)
	case spec.Completions == nil || spec.Parallelism == nil || *spec.Completions == *spec.Parallelism:
		return nil
	}
	return field.ErrorList{field.Invalid(path, spec.Completions, fmt.Sprintf("can only be modified in tandem with %s", specPath.Child("parallelism")))}
}

// checkJobTemplate lets directives for the scheduler and resources change while the Job
// is suspended and none of its Pods is left.
func checkJobTemplate(spec *upstreambatchv1.JobSpec, old *batchv1.Job) field.ErrorList {
	path := specPath.Child("template")
	if !mayChangeTemplate(old) {
		return fixed(equality.Semantic.DeepEqual(spec.Template, old.Spec.Template), path, spec.Template)
	}
	allowed := old.Spec.Template.DeepCopy()
	allowed.Labels, allowed.Annotations = spec.Template.Labels, spec.Template.Annotations
	now, was := &spec.Template.Spec, &allowed.Spec
	was.NodeSelector, was.Tolerations, was.SchedulingGates = now.NodeSelector, now.Tolerations, now.SchedulingGates
	was.Affinity = withNodeAffinity(was.Affinity, now.Affinity)
	copyResources(was.Containers, now.Containers)
	copyResources(was.InitContainers, now.InitContainers)
	return fixed(equality.Semantic.DeepEqual(now, was), specPath.Child("template.spec"), spec.Template.Spec)
}

func mayChangeTemplate(job *batchv1.Job) bool {
	suspended := job.Spec.Suspend != nil && *job.Spec.Suspend
	stopped := job.Status.StartTime == nil || jobs.IsTrue(job.Status.Conditions, upstreambatchv1.JobSuspended)
	return suspended && stopped && job.Status.Active == 0
}

// withNodeAffinity returns old with the node affinity of now.
func withNodeAffinity(old, now *corev1.Affinity) *corev1.Affinity {
	switch {
	case now == nil && old == nil:
		return nil
	case old == nil:
		return &corev1.Affinity{NodeAffinity: now.NodeAffinity}
	}
	merged := old.DeepCopy()
	merged.NodeAffinity = nil
	if now != nil {
		merged.NodeAffinity = now.NodeAffinity
	} else if *merged == (corev1.Affinity{}) {
		return nil
	}
	return merged
}

func copyResources(to, from []corev1.Container) {
	if len(to) != len(from) {
		return
	}
	for i := range from {
		if to[i].Name == from[i].Name {
			to[i].Resources = from[i].Resources
		}
	}
}
