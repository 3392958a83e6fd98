package job

import (
	"slices"
	"strconv"

	upstreambatchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podcontrol"
)

const (
	indexVariable = "JOB_COMPLETION_INDEX"
	// maxGenerateName is how much of metadata.generateName the API server keeps.
	maxGenerateName = 58
)

// renderPod makes a Pod of the Job; index is noIndex in a Job that is not Indexed.
func renderPod(s *snapshot, owner podcontrol.Owner, index int) *keelsonv1.Pod {
	template := s.job.Spec.Template.DeepCopy()
	if !slices.Contains(template.Finalizers, upstreambatchv1.JobTrackingFinalizer) {
		template.Finalizers = append(template.Finalizers, upstreambatchv1.JobTrackingFinalizer)
	}
	if index == noIndex {
		return podcontrol.Render(owner, template)
	}
	setIndex(template, index)
	if s.perIndex() {
		setFailureCounts(s, template, s.retained[index])
	}
	template.Spec.Hostname = s.job.Name + "-" + strconv.Itoa(index)
	pod := podcontrol.Render(owner, template)
	pod.GenerateName = generateName(s.job.Name, index)
	return pod
}

func setIndex(template *corev1.PodTemplateSpec, index int) {
	text := strconv.Itoa(index)
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Annotations[upstreambatchv1.JobCompletionIndexAnnotation] = text
	template.Labels[upstreambatchv1.JobCompletionIndexAnnotation] = text
	for _, containers := range [][]corev1.Container{template.Spec.InitContainers, template.Spec.Containers} {
		for i := range containers {
			addIndexVariable(&containers[i])
		}
	}
}

func addIndexVariable(container *corev1.Container) {
	if slices.ContainsFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == indexVariable }) {
		return
	}
	container.Env = append(container.Env, corev1.EnvVar{Name: indexVariable, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{
			APIVersion: "v1",
			FieldPath:  "metadata.labels['" + upstreambatchv1.JobCompletionIndexAnnotation + "']",
		},
	}})
}

// setFailureCounts hands the failures of an index from its last Pod, nil for none, to
// the next.
func setFailureCounts(s *snapshot, template *corev1.PodTemplateSpec, last *keelsonv1.Pod) {
	var counted, ignored int32
	if last != nil {
		counted = failureCount(last)
		ignored = allFailures(last) - counted
		if judgeFailure(s.job.Spec.PodFailurePolicy, last).counts() {
			counted++
		} else {
			ignored++
		}
	}
	template.Annotations[upstreambatchv1.JobIndexFailureCountAnnotation] = strconv.Itoa(int(counted))
	if ignored > 0 {
		template.Annotations[upstreambatchv1.JobIndexIgnoredFailureCountAnnotation] = strconv.Itoa(int(ignored))
	}
}

// generateName keeps the index whole where the name is too long for both.
func generateName(job string, index int) string {
	suffix := "-" + strconv.Itoa(index) + "-"
	return job[:min(len(job), maxGenerateName-len(suffix))] + suffix
}
