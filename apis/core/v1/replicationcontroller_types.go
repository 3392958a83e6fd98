package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReplicationController keeps a given number of copies of one Pod running.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.summary.selector
// +kubebuilder:resource:path=replicationcontrollers,shortName=krc,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.spec.replicas`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.replicas`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.summary.ready`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type ReplicationController struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.ReplicationControllerSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"replicas":0,"summary":{"ready":0}}
	// +optional
	Status ReplicationControllerStatus `json:"status,omitempty"`
}

// ReplicationControllerStatus is the upstream status plus what the columns show.
type ReplicationControllerStatus struct {
	corev1.ReplicationControllerStatus `json:",inline"`

	// Summary is what `kubectl get` shows and what the scale subresource selects by.
	// +optional
	Summary WorkloadSummary `json:"summary,omitempty"`
}

// WorkloadSummary holds the computed columns of a kind that owns Pods.
type WorkloadSummary struct {
	// Ready is the number of ready Pods; unlike status.readyReplicas it is written
	// when it is 0.
	// +optional
	Ready int32 `json:"ready"`
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

// ReplicationControllerList is a list of ReplicationControllers.
//
// +kubebuilder:object:root=true
type ReplicationControllerList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ReplicationController `json:"items"`
}
