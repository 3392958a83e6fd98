package v1

import (
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EndpointSlice lists some of the addresses behind a Service, of one family. The label
// kubernetes.io/service-name names the Service, endpointslice.kubernetes.io/managed-by
// whoever writes the slice.
//
// It has no status subresource: summary travels with the endpoints it describes, in
// one write.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=endpointslices,shortName=keps,categories=keelson
// +kubebuilder:printcolumn:name="AddressType",type=string,JSONPath=`.addressType`
// +kubebuilder:printcolumn:name="Ports",type=string,JSONPath=`.status.summary.ports`
// +kubebuilder:printcolumn:name="Endpoints",type=string,JSONPath=`.status.summary.endpoints`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EndpointSlice struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// AddressType says what all addresses of the slice are; it cannot be changed.
	AddressType discoveryv1.AddressType `json:"addressType"`
	// Endpoints are the addresses, at most 1000.
	// +listType=atomic
	Endpoints []discoveryv1.Endpoint `json:"endpoints"`
	// Ports are what every endpoint of the slice serves, at most 20000.
	// +optional
	// +listType=atomic
	Ports []discoveryv1.EndpointPort `json:"ports,omitempty"`
	// +optional
	Status EndpointSliceStatus `json:"status,omitempty"`
}

// EndpointSliceStatus holds nothing but the columns; upstream's EndpointSlice has no
// status.
type EndpointSliceStatus struct {
	// Summary is what `kubectl get` shows. Admission writes it for slices that people
	// write, the controllers for theirs.
	// +optional
	Summary EndpointSliceSummary `json:"summary,omitempty"`
}

// EndpointSliceSummary holds the computed columns of an EndpointSlice.
type EndpointSliceSummary struct {
	// Ports is "80,443", <unset> without a port.
	// +optional
	Ports string `json:"ports,omitempty"`
	// Endpoints is "10.244.0.5,10.244.0.6 + 2 more...", or <unset>.
	// +optional
	Endpoints string `json:"endpoints,omitempty"`
}

// EndpointSliceList is a list of EndpointSlices.
//
// +kubebuilder:object:root=true
type EndpointSliceList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EndpointSlice `json:"items"`
}
