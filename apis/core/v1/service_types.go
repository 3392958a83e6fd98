package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Service is one fixed address in front of a changing set of Pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=services,shortName=ksvc,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.spec.clusterIP`
// +kubebuilder:selectablefield:JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="Cluster-IP",type=string,JSONPath=`.status.summary.clusterIP`
// +kubebuilder:printcolumn:name="External-IP",type=string,JSONPath=`.status.summary.externalIP`
// +kubebuilder:printcolumn:name="Port(s)",type=string,JSONPath=`.status.summary.ports`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type Service struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.ServiceSpec `json:"spec,omitempty"`
	// +optional
	Status ServiceStatus `json:"status,omitempty"`
}

// ServiceStatus is the upstream status plus what the columns show.
type ServiceStatus struct {
	corev1.ServiceStatus `json:",inline"`

	// Summary is what `kubectl get` shows; whoever writes status writes it.
	// +optional
	Summary ServiceSummary `json:"summary,omitempty"`
}

// ServiceSummary holds the computed columns of a Service.
type ServiceSummary struct {
	// ClusterIP is the first cluster address, or <none>.
	// +optional
	ClusterIP string `json:"clusterIP,omitempty"`
	// ExternalIP lists addresses that reach the Service from outside, or <none>.
	// +optional
	ExternalIP string `json:"externalIP,omitempty"`
	// Ports is "80:30001/TCP,443/TCP".
	// +optional
	Ports string `json:"ports,omitempty"`
	// Selector is the selector in string form, or <none>.
	// +optional
	Selector string `json:"selector,omitempty"`
}

// ServiceList is a list of Services.
//
// +kubebuilder:object:root=true
type ServiceList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Service `json:"items"`
}
