package v1

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StatefulSet keeps Pods with names that stay: name-0, name-1 and so on.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.summary.selector
// +kubebuilder:resource:path=statefulsets,shortName=ksts,categories=keelson
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.summary.ready`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
type StatefulSet struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec appsv1.StatefulSetSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"replicas":0,"summary":{"ready":"0/0"}}
	// +optional
	Status StatefulSetStatus `json:"status,omitempty"`
}

// StatefulSetStatus is the upstream status plus what the columns show.
type StatefulSetStatus struct {
	appsv1.StatefulSetStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary StatefulSetSummary `json:"summary,omitempty"`
}

// StatefulSetSummary holds the computed columns of a StatefulSet.
type StatefulSetSummary struct {
	// Ready is ready/wanted, such as "1/3".
	// +optional
	Ready string `json:"ready"`
	// Containers are the container names of the template, comma separated.
	// +optional
	Containers string `json:"containers,omitempty"`
	// Images are the container images of the template, comma separated.
	// +optional
	Images string `json:"images,omitempty"`
	// Selector is the selector in string form.
	// +optional
	Selector string `json:"selector,omitempty"`
}

// StatefulSetList is a list of StatefulSets.
//
// +kubebuilder:object:root=true
type StatefulSetList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StatefulSet `json:"items"`
}
