package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is a set of containers that run on one node and share its network address.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=pods,shortName=kpo,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.spec.hostNetwork`
// +kubebuilder:selectablefield:JSONPath=`.spec.nodeName`
// +kubebuilder:selectablefield:JSONPath=`.spec.restartPolicy`
// +kubebuilder:selectablefield:JSONPath=`.spec.schedulerName`
// +kubebuilder:selectablefield:JSONPath=`.spec.serviceAccountName`
// +kubebuilder:selectablefield:JSONPath=`.status.nominatedNodeName`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:selectablefield:JSONPath=`.status.podIP`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.summary.ready`,description="Ready containers of all containers."
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.summary.status`,description="The phase, or the reason why a container waits or ended."
// +kubebuilder:printcolumn:name="Restarts",type=integer,JSONPath=`.status.summary.restarts`,description="Container restarts, all containers together."
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="IP",type=string,JSONPath=`.status.podIP`,priority=1
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.spec.nodeName`,priority=1
// +kubebuilder:printcolumn:name="Nominated Node",type=string,JSONPath=`.status.nominatedNodeName`,priority=1
// +kubebuilder:printcolumn:name="Readiness Gates",type=string,JSONPath=`.status.summary.readinessGates`,priority=1
// +kubebuilder:printcolumn:name="Last Restart",type=date,JSONPath=`.status.summary.lastRestart`,priority=1,description="When a container ended last that was started again."
type Pod struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.PodSpec `json:"spec,omitempty"`
	// A Pod that nobody has reported on yet is Pending, as upstream's strategy
	// writes it on create.
	// +kubebuilder:default={"phase":"Pending","summary":{"status":"Pending","restarts":0}}
	// +optional
	Status PodStatus `json:"status,omitempty"`
}

// PodStatus is the upstream status plus what the columns show.
type PodStatus struct {
	corev1.PodStatus `json:",inline"`

	// Summary is what `kubectl get` shows; whoever writes status writes it.
	// +optional
	Summary PodSummary `json:"summary,omitempty"`
}

// PodSummary holds the computed columns of a Pod.
type PodSummary struct {
	// Ready is "<ready>/<all>" containers.
	// +optional
	Ready string `json:"ready,omitempty"`
	// Status is the STATUS column, such as Running, CrashLoopBackOff or Terminating.
	// +optional
	Status string `json:"status,omitempty"`
	// Restarts is the sum over containers.
	// +optional
	Restarts int32 `json:"restarts"`
	// LastRestart is when a container that is counted in Restarts ended last.
	// +optional
	LastRestart *metav1.Time `json:"lastRestart,omitempty"`
	// ReadinessGates is "<true>/<all>" readiness gates, empty when there are none.
	// +optional
	ReadinessGates string `json:"readinessGates,omitempty"`
}

// PodList is a list of Pods.
//
// +kubebuilder:object:root=true
type PodList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Pod `json:"items"`
}
