package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// LimitRange gives Pods of its namespace defaults and bounds for their resources.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=limitranges,shortName=klimits,categories=keelson
// +kubebuilder:printcolumn:name="Created At",type=string,JSONPath=`.metadata.creationTimestamp`
type LimitRange struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.LimitRangeSpec `json:"spec,omitempty"`
}

// LimitRangeList is a list of LimitRanges.
//
// +kubebuilder:object:root=true
type LimitRangeList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []LimitRange `json:"items"`
}
