package v1

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Job runs Pods until a given number of them has succeeded.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=jobs,shortName=kjob,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.status.succeeded`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.summary.status`
// +kubebuilder:printcolumn:name="Completions",type=string,JSONPath=`.status.summary.completions`
// +kubebuilder:printcolumn:name="Duration",type=string,JSONPath=`.status.summary.duration`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type Job struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec batchv1.JobSpec `json:"spec,omitempty"`
	// +optional
	Status JobStatus `json:"status,omitempty"`
}

// JobStatus is the upstream status plus what the columns show.
type JobStatus struct {
	batchv1.JobStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary JobSummary `json:"summary,omitempty"`
}

// JobSummary holds the computed columns of a Job.
type JobSummary struct {
	// Status is Running, Complete, Failed, Suspended, Terminating and so on.
	// +optional
	Status string `json:"status,omitempty"`
	// Completions is succeeded/wanted, such as "1/3".
	// +optional
	Completions string `json:"completions,omitempty"`
	// Duration is the time from start to completion; "since" and the start before.
	// +optional
	Duration string `json:"duration"`
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

// JobList is a list of Jobs.
//
// +kubebuilder:object:root=true
type JobList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Job `json:"items"`
}
