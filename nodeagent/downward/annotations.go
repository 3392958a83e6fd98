package downward

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AsksForAnnotations says whether a variable or a file of the Pod is made of its
// annotations.
func AsksForAnnotations(spec *corev1.PodSpec) bool {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if variablesAsk(list[i].Env) {
				return true
			}
		}
	}
	for i := range spec.EphemeralContainers {
		if variablesAsk(spec.EphemeralContainers[i].Env) {
			return true
		}
	}
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		if v.DownwardAPI != nil && filesAsk(v.DownwardAPI.Items) {
			return true
		}
		if v.Projected == nil {
			continue
		}
		for j := range v.Projected.Sources {
			if d := v.Projected.Sources[j].DownwardAPI; d != nil && filesAsk(d.Items) {
				return true
			}
		}
	}
	return false
}

func variablesAsk(variables []corev1.EnvVar) bool {
	for i := range variables {
		if from := variables[i].ValueFrom; from != nil && refers(from.FieldRef) {
			return true
		}
	}
	return false
}

func filesAsk(items []corev1.DownwardAPIVolumeFile) bool {
	for i := range items {
		if refers(items[i].FieldRef) {
			return true
		}
	}
	return false
}

func refers(field *corev1.ObjectFieldSelector) bool {
	return field != nil && strings.HasPrefix(field.FieldPath, "metadata.annotations")
}
