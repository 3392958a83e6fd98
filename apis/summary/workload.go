package summary

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
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

// ReplicaSet returns the same columns of rs.
func ReplicaSet(rs *appsv1.ReplicaSet) keelsonv1.WorkloadSummary {
	names, images := containerColumns(&rs.Spec.Template)
	return keelsonv1.WorkloadSummary{
		Ready:      rs.Status.ReadyReplicas,
		Containers: names,
		Images:     images,
		Selector:   selectorColumn(rs.Spec.Selector),
	}
}

// Deployment returns the READY, UP-TO-DATE, AVAILABLE, CONTAINERS, IMAGES and SELECTOR
// columns of d.
func Deployment(d *appsv1.Deployment) appsv1.DeploymentSummary {
	names, images := containerColumns(&d.Spec.Template)
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	return appsv1.DeploymentSummary{
		Ready:      fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, want),
		UpToDate:   d.Status.UpdatedReplicas,
		Available:  d.Status.AvailableReplicas,
		Containers: names,
		Images:     images,
		Selector:   selectorColumn(d.Spec.Selector),
	}
}

// selectorColumn is empty where the selector selects nothing or cannot be read.
func selectorColumn(selector *metav1.LabelSelector) string {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return ""
	}
	return parsed.String()
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
