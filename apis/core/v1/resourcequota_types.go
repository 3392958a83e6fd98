package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	// Pending are objects that were admitted and that the count may not have seen yet.
	// +listType=atomic
	// +optional
	Pending []ResourceQuotaReservation `json:"pending,omitempty"`
}

// ResourceQuotaReservation is what one object takes that was admitted a moment ago: it
// is part of status.used until the object itself is counted, or until nothing can come
// of the request any more.
type ResourceQuotaReservation struct {
	// UID and Generation say which state of which object it is.
	UID        types.UID `json:"uid"`
	Generation int64     `json:"generation"`
	// Until is when the reservation ends by itself.
	Until metav1.Time `json:"until"`
	// Usage is what the object takes of the resources of the quota.
	Usage corev1.ResourceList `json:"usage,omitempty"`
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
