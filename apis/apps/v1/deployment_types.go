package v1

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Deployment rolls a Pod template out over ReplicaSets, and back.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.summary.selector
// +kubebuilder:resource:path=deployments,shortName=kdeploy,categories=keelson
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.summary.ready`
// +kubebuilder:printcolumn:name="Up-to-date",type=integer,JSONPath=`.status.summary.upToDate`
// +kubebuilder:printcolumn:name="Available",type=integer,JSONPath=`.status.summary.available`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type Deployment struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec appsv1.DeploymentSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"summary":{"ready":"0/0","upToDate":0,"available":0}}
	// +optional
	Status DeploymentStatus `json:"status,omitempty"`
}

// DeploymentStatus is the upstream status plus what the columns show.
type DeploymentStatus struct {
	appsv1.DeploymentStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary DeploymentSummary `json:"summary,omitempty"`
}

// DeploymentSummary holds the computed columns of a Deployment.
type DeploymentSummary struct {
	// Ready is ready/wanted, such as "1/3".
	// +optional
	Ready string `json:"ready"`
	// UpToDate is status.updatedReplicas, also when it is 0.
	// +optional
	UpToDate int32 `json:"upToDate"`
	// Available is status.availableReplicas, also when it is 0.
	// +optional
	Available int32 `json:"available"`
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

// DeploymentList is a list of Deployments.
//
// +kubebuilder:object:root=true
type DeploymentList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Deployment `json:"items"`
}
