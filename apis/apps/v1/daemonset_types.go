package v1

import (
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DaemonSet keeps one Pod on every node that is eligible.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=daemonsets,shortName=kds,categories=keelson
// +kubebuilder:printcolumn:name="Desired",type=integer,JSONPath=`.status.desiredNumberScheduled`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.currentNumberScheduled`
// +kubebuilder:printcolumn:name="Ready",type=integer,JSONPath=`.status.numberReady`
// +kubebuilder:printcolumn:name="Up-to-date",type=integer,JSONPath=`.status.summary.upToDate`
// +kubebuilder:printcolumn:name="Available",type=integer,JSONPath=`.status.summary.available`
// +kubebuilder:printcolumn:name="Node Selector",type=string,JSONPath=`.status.summary.nodeSelector`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type DaemonSet struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec appsv1.DaemonSetSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":0,"numberReady":0,"summary":{"upToDate":0,"available":0,"nodeSelector":"<none>"}}
	// +optional
	Status DaemonSetStatus `json:"status,omitempty"`
}

// DaemonSetStatus is the upstream status plus what the columns show.
type DaemonSetStatus struct {
	appsv1.DaemonSetStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary DaemonSetSummary `json:"summary,omitempty"`
}

// DaemonSetSummary holds the computed columns of a DaemonSet.
type DaemonSetSummary struct {
	// UpToDate is status.updatedNumberScheduled, also when it is 0.
	// +optional
	UpToDate int32 `json:"upToDate"`
	// Available is status.numberAvailable, also when it is 0.
	// +optional
	Available int32 `json:"available"`
	// NodeSelector is the template's node selector, "<none>" without one.
	// +optional
	NodeSelector string `json:"nodeSelector"`
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

// DaemonSetList is a list of DaemonSets.
//
// +kubebuilder:object:root=true
type DaemonSetList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []DaemonSet `json:"items"`
}
