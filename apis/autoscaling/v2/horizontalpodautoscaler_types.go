package v2

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// HorizontalPodAutoscaler scales a workload by metrics.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=horizontalpodautoscalers,shortName=khpa,categories=keelson
// +kubebuilder:printcolumn:name="Reference",type=string,JSONPath=`.status.summary.reference`
// +kubebuilder:printcolumn:name="Targets",type=string,JSONPath=`.status.summary.targets`
// +kubebuilder:printcolumn:name="MinPods",type=string,JSONPath=`.status.summary.minPods`
// +kubebuilder:printcolumn:name="MaxPods",type=integer,JSONPath=`.spec.maxReplicas`
// +kubebuilder:printcolumn:name="Replicas",type=integer,JSONPath=`.status.summary.replicas`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type HorizontalPodAutoscaler struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec autoscalingv2.HorizontalPodAutoscalerSpec `json:"spec,omitempty"`
	// +kubebuilder:default={"desiredReplicas":0,"summary":{"replicas":0}}
	// +optional
	Status HorizontalPodAutoscalerStatus `json:"status,omitempty"`
}

// HorizontalPodAutoscalerStatus is the upstream status plus what the columns show.
type HorizontalPodAutoscalerStatus struct {
	autoscalingv2.HorizontalPodAutoscalerStatus `json:",inline"`

	// Summary is what `kubectl get` shows.
	// +optional
	Summary HorizontalPodAutoscalerSummary `json:"summary,omitempty"`
}

// HorizontalPodAutoscalerSummary holds the computed columns of a HorizontalPodAutoscaler.
type HorizontalPodAutoscalerSummary struct {
	// Reference is kind/name of what is scaled.
	// +optional
	Reference string `json:"reference,omitempty"`
	// Targets are the current and wanted values of the metrics.
	// +optional
	Targets string `json:"targets,omitempty"`
	// MinPods is spec.minReplicas, "<unset>" without one.
	// +optional
	MinPods string `json:"minPods,omitempty"`
	// Replicas is status.currentReplicas, also when it is 0.
	// +optional
	Replicas int32 `json:"replicas"`
}

// HorizontalPodAutoscalerList is a list of HorizontalPodAutoscalers.
//
// +kubebuilder:object:root=true
type HorizontalPodAutoscalerList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HorizontalPodAutoscaler `json:"items"`
}
