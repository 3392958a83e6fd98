package v1

import (
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// CronJob makes Jobs at times that a schedule gives.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=cronjobs,shortName=kcj,categories=keelson
// +kubebuilder:printcolumn:name="Schedule",type=string,JSONPath=`.spec.schedule`
// +kubebuilder:printcolumn:name="Timezone",type=string,JSONPath=`.spec.timeZone`
// +kubebuilder:printcolumn:name="Suspend",type=string,JSONPath=`.status.summary.suspend`
// +kubebuilder:printcolumn:name="Active",type=integer,JSONPath=`.status.summary.active`
// +kubebuilder:printcolumn:name="Last Schedule",type=date,JSONPath=`.status.lastScheduleTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Containers",type=string,JSONPath=`.status.summary.containers`,priority=1
// +kubebuilder:printcolumn:name="Images",type=string,JSONPath=`.status.summary.images`,priority=1
// +kubebuilder:printcolumn:name="Selector",type=string,JSONPath=`.status.summary.selector`,priority=1
type CronJob struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec batchv1.CronJobSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"summary":{"active":0}}
	// +optional
	Status CronJobStatus `json:"status,omitempty"`
}

// CronJobStatus is the upstream status plus what the columns show.
type CronJobStatus struct {
	batchv1.CronJobStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary CronJobSummary `json:"summary,omitempty"`
}

// CronJobSummary holds the computed columns of a CronJob.
type CronJobSummary struct {
	// Active is the number of Jobs that run.
	// +optional
	Active int32 `json:"active"`
	// Suspend is True or False, as spec.suspend.
	// +optional
	Suspend string `json:"suspend,omitempty"`
	// Containers are the container names of the template, comma separated.
	// +optional
	Containers string `json:"containers,omitempty"`
	// Images are the container images of the template, comma separated.
	// +optional
	Images string `json:"images,omitempty"`
	// Selector is that of the Jobs in string form.
	// +optional
	Selector string `json:"selector,omitempty"`
}

// CronJobList is a list of CronJobs.
//
// +kubebuilder:object:root=true
type CronJobList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []CronJob `json:"items"`
}
