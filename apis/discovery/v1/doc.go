// Package v1 holds the kinds of API group discovery.keelson.dev/v1: Keelson's
// EndpointSlice.
//
// A kind here is the upstream kind of group discovery.k8s.io under another group name,
// as in apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=discovery.keelson.dev
package v1
