package summary

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
)

// DaemonSet returns the UP-TO-DATE, AVAILABLE, NODE SELECTOR, CONTAINERS, IMAGES and
// SELECTOR columns of ds.
func DaemonSet(ds *appsv1.DaemonSet) appsv1.DaemonSetSummary {
	names, images := containerColumns(&ds.Spec.Template)
	return appsv1.DaemonSetSummary{
		UpToDate:     ds.Status.UpdatedNumberScheduled,
		Available:    ds.Status.NumberAvailable,
		NodeSelector: labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector),
		Containers:   names,
		Images:       images,
		Selector:     metav1.FormatLabelSelector(ds.Spec.Selector),
	}
}

// StatefulSet returns the READY, CONTAINERS and IMAGES columns of set, and the selector
// that its scale subresource gives to clients that parse it.
func StatefulSet(set *appsv1.StatefulSet) appsv1.StatefulSetSummary {
	names, images := containerColumns(&set.Spec.Template)
	wanted := int32(1)
	if set.Spec.Replicas != nil {
		wanted = *set.Spec.Replicas
	}
	return appsv1.StatefulSetSummary{
		Ready:      fmt.Sprintf("%d/%d", set.Status.ReadyReplicas, wanted),
		Containers: names,
		Images:     images,
		Selector:   metav1.FormatLabelSelector(set.Spec.Selector),
	}
}
