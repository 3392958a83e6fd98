package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Endpoints lists the addresses behind the Service of the same name.
//
// It has no status subresource: summary travels with the subsets it describes, in
// one write.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=endpoints,shortName=kep,categories=keelson
// +kubebuilder:printcolumn:name="Endpoints",type=string,JSONPath=`.status.summary.endpoints`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Endpoints struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Subsets are groups of addresses that share a list of ports.
	// +optional
	// +listType=atomic
	Subsets []corev1.EndpointSubset `json:"subsets,omitempty"`
	// +optional
	Status EndpointsStatus `json:"status,omitempty"`
}

// EndpointsStatus holds nothing but the columns; upstream's Endpoints has no status.
type EndpointsStatus struct {
	// Summary is what `kubectl get` shows; whoever writes subsets writes it.
	// +optional
	Summary EndpointsSummary `json:"summary,omitempty"`
}

// EndpointsSummary holds the computed columns of an Endpoints object.
type EndpointsSummary struct {
	// Endpoints is "10.244.0.5:80,10.244.0.6:80 + 2 more...", or <none>.
	// +optional
	Endpoints string `json:"endpoints,omitempty"`
}

// EndpointsList is a list of Endpoints.
//
// +kubebuilder:object:root=true
type EndpointsList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Endpoints `json:"items"`
}
