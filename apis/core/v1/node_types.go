package v1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Node is a machine whose agent runs Pods.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=nodes,scope=Cluster,shortName=kno,categories=keelson
// +kubebuilder:selectablefield:JSONPath=`.spec.unschedulable`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.summary.status`
// +kubebuilder:printcolumn:name="Roles",type=string,JSONPath=`.status.summary.roles`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.nodeInfo.kubeletVersion`
// +kubebuilder:printcolumn:name="Internal-IP",type=string,JSONPath=`.status.summary.internalIP`,priority=1
// +kubebuilder:printcolumn:name="External-IP",type=string,JSONPath=`.status.summary.externalIP`,priority=1
// +kubebuilder:printcolumn:name="OS-Image",type=string,JSONPath=`.status.nodeInfo.osImage`,priority=1
// +kubebuilder:printcolumn:name="Kernel-Version",type=string,JSONPath=`.status.nodeInfo.kernelVersion`,priority=1
// +kubebuilder:printcolumn:name="Container-Runtime",type=string,JSONPath=`.status.nodeInfo.containerRuntimeVersion`,priority=1
type Node struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec corev1.NodeSpec `json:"spec,omitempty"`
	// +optional
	Status NodeStatus `json:"status,omitempty"`
}

// NodeStatus is the upstream status plus what the columns show.
type NodeStatus struct {
	corev1.NodeStatus `json:",inline"`

	// Summary is what `kubectl get` shows; whoever writes status writes it.
	// +optional
	Summary NodeSummary `json:"summary,omitempty"`
}

// NodeSummary holds the computed columns of a Node.
type NodeSummary struct {
	// Status is the STATUS column, such as Ready or NotReady,SchedulingDisabled.
	// +optional
	Status string `json:"status,omitempty"`
	// Roles are the values of the node-role.kubernetes.io/ labels, or <none>.
	// +optional
	Roles string `json:"roles,omitempty"`
	// InternalIP is the first address of that type, or <none>.
	// +optional
	InternalIP string `json:"internalIP,omitempty"`
	// ExternalIP is the first address of that type, or <none>.
	// +optional
	ExternalIP string `json:"externalIP,omitempty"`
}

// NodeList is a list of Nodes.
//
// +kubebuilder:object:root=true
type NodeList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Node `json:"items"`
}
