package v1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// ControllerRevision is one state of a DaemonSet's or a StatefulSet's template. Its
// data never changes.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=controllerrevisions,categories=keelson
// +kubebuilder:printcolumn:name="Controller",type=string,JSONPath=`.metadata.ownerReferences[?(@.controller==true)].name`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.revision`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ControllerRevision struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Data is the template, as a patch of its owner.
	// +kubebuilder:pruning:PreserveUnknownFields
	// +optional
	Data runtime.RawExtension `json:"data,omitempty"`
	// Revision counts up from 1 for one owner.
	Revision int64 `json:"revision"`
}

// ControllerRevisionList is a list of ControllerRevisions.
//
// +kubebuilder:object:root=true
type ControllerRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ControllerRevision `json:"items"`
}
