package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ResourceQuota limits what the objects of its namespace take together.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=resourcequotas,shortName=kquota,categories=keelson
// +kubebuilder:printcolumn:name="Request",type=string,JSONPath=`.status.summary.request`
// +kubebuilder:printcolumn:name="Limit",type=string,JSONPath=`.status.summary.limit`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ResourceQuota struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.ResourceQuotaSpec `json:"spec,omitempty"`
	// +optional
	Status ResourceQuotaStatus `json:"status,omitempty"`
}

// ResourceQuotaStatus is the upstream status plus what the columns show.
type ResourceQuotaStatus struct {
	corev1.ResourceQuotaStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary ResourceQuotaSummary `json:"summary,omitempty"`
}

// ResourceQuotaSummary holds the computed columns of a ResourceQuota.
type ResourceQuotaSummary struct {
	// Request is "name: used/hard" of all but limits, comma separated.
	// +optional
	Request string `json:"request,omitempty"`
	// Limit is "name: used/hard" of the limits, comma separated.
	// +optional
	Limit string `json:"limit,omitempty"`
}

// ResourceQuotaList is a list of ResourceQuotas.
//
// +kubebuilder:object:root=true
type ResourceQuotaList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ResourceQuota `json:"items"`
}
