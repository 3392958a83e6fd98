// Package v1 holds the kinds of API group networking.keelson.dev/v1: Keelson's
// NetworkPolicy.
//
// A kind here is the upstream kind of group networking.k8s.io under another group name,
// as in apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=networking.keelson.dev
package v1
