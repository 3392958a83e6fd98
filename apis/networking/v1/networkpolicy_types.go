package v1

import (
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkPolicy says which traffic the Pods that it selects accept and send.
//
// It has no status subresource: nobody but admission writes summary.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=networkpolicies,shortName=knetpol,categories=keelson
// +kubebuilder:printcolumn:name="Pod-Selector",type=string,JSONPath=`.status.summary.podSelector`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NetworkPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec networkingv1.NetworkPolicySpec `json:"spec,omitempty"`
	// +optional
	Status NetworkPolicyStatus `json:"status,omitempty"`
}

// NetworkPolicyStatus holds nothing but the columns; upstream's NetworkPolicy has no
// status.
type NetworkPolicyStatus struct {
	// Summary is what `kubectl get` shows; admission writes it.
	// +optional
	Summary NetworkPolicySummary `json:"summary,omitempty"`
}

// NetworkPolicySummary holds the computed columns of a NetworkPolicy.
type NetworkPolicySummary struct {
	// PodSelector is "app=db,tier in (a,b)", or <none> for all Pods.
	// +optional
	PodSelector string `json:"podSelector,omitempty"`
}

// NetworkPolicyList is a list of NetworkPolicies.
//
// +kubebuilder:object:root=true
type NetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NetworkPolicy `json:"items"`
}
