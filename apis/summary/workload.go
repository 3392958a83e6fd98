package summary

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ReplicationController returns the READY, CONTAINERS, IMAGES and SELECTOR
// columns of rc. An empty selector stays empty instead of <none>, because the
// scale subresource gives this string to clients that parse it.
func ReplicationController(rc *keelsonv1.ReplicationController) keelsonv1.WorkloadSummary {
	names, images := containerColumns(rc.Spec.Template)
	return keelsonv1.WorkloadSummary{
		Ready:      rc.Status.ReadyReplicas,
		Containers: names,
		Images:     images,
		Selector:   labels.Set(rc.Spec.Selector).String(),
	}
}

func containerColumns(template *corev1.PodTemplateSpec) (names, images string) {
	if template == nil {
		return "", ""
	}
	var n, i []string
	for _, c := range template.Spec.Containers {
		n = append(n, c.Name)
		i = append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// PodTemplate returns the CONTAINERS, IMAGES and POD LABELS columns of a PodTemplate.
func PodTemplate(template *corev1.PodTemplateSpec) keelsonv1.PodTemplateSummary {
	names, images := containerColumns(template)
	return keelsonv1.PodTemplateSummary{Containers: names, Images: images, PodLabels: labels.FormatLabels(template.Labels)}
}
