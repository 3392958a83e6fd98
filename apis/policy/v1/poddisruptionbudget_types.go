package v1

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PodDisruptionBudget limits how many Pods of an application evictions may take away
// at a time.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=poddisruptionbudgets,shortName=kpdb,categories=keelson
// +kubebuilder:printcolumn:name="Min Available",type=string,JSONPath=`.status.summary.minAvailable`
// +kubebuilder:printcolumn:name="Max Unavailable",type=string,JSONPath=`.status.summary.maxUnavailable`
// +kubebuilder:printcolumn:name="Allowed Disruptions",type=integer,JSONPath=`.status.disruptionsAllowed`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type PodDisruptionBudget struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec policyv1.PodDisruptionBudgetSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0,"summary":{}}
	// +optional
	Status PodDisruptionBudgetStatus `json:"status,omitempty"`
}

// PodDisruptionBudgetStatus is the upstream status plus what the columns show.
type PodDisruptionBudgetStatus struct {
	policyv1.PodDisruptionBudgetStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary PodDisruptionBudgetSummary `json:"summary,omitempty"`
}

// PodDisruptionBudgetSummary holds the computed columns of a PodDisruptionBudget.
type PodDisruptionBudgetSummary struct {
	// MinAvailable is spec.minAvailable, "N/A" without one.
	// +optional
	MinAvailable string `json:"minAvailable,omitempty"`
	// MaxUnavailable is spec.maxUnavailable, "N/A" without one.
	// +optional
	MaxUnavailable string `json:"maxUnavailable,omitempty"`
}

// PodDisruptionBudgetList is a list of PodDisruptionBudgets.
//
// +kubebuilder:object:root=true
type PodDisruptionBudgetList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PodDisruptionBudget `json:"items"`
}
