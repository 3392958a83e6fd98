package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodTemplate is a template that others copy Pods from.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=podtemplates,shortName=kpt,categories=keelson
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`
// +kubebuilder:printcolumn:name="Pod Labels",type=string,JSONPath=`.status.summary.podLabels`
type PodTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Template corev1.PodTemplateSpec `json:"template,omitempty"`
	// +optional
	Status PodTemplateStatus `json:"status,omitempty"`
}

// PodTemplateStatus holds what the columns show; upstream's kind has no status.
type PodTemplateStatus struct {
	// Summary is what `kubectl get` shows.
	// +optional
	Summary PodTemplateSummary `json:"summary,omitempty"`
}

// PodTemplateSummary holds the computed columns of a PodTemplate.
type PodTemplateSummary struct {
	// Containers are the container names of the template, comma separated.
	// +optional
	Containers string `json:"containers,omitempty"`
	// Images are the container images of the template, comma separated.
	// +optional
	Images string `json:"images,omitempty"`
	// PodLabels are the template's labels.
	// +optional
	PodLabels string `json:"podLabels,omitempty"`
}

// PodTemplateList is a list of PodTemplates.
//
// +kubebuilder:object:root=true
type PodTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PodTemplate `json:"items"`
}
