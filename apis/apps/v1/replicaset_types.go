package v1

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// ReplicaSet keeps a given number of copies of one Pod running. Deployments make them.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.summary.selector
// +kubebuilder:resource:path=replicasets,shortName=krs,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.summary.ready`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type ReplicaSet struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec appsv1.ReplicaSetSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"replicas":0,"summary":{"ready":0}}
	// +optional
	Status ReplicaSetStatus `json:"status,omitempty"`
}

// ReplicaSetStatus is the upstream status plus what the columns show.
type ReplicaSetStatus struct {
	appsv1.ReplicaSetStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary keelsonv1.WorkloadSummary `json:"summary,omitempty"`
}

// ReplicaSetList is a list of ReplicaSets.
//
// +kubebuilder:object:root=true
type ReplicaSetList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ReplicaSet `json:"items"`
}
