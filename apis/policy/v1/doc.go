// Package v1 holds the kinds of API group policy.keelson.dev/v1: Keelson's
// PodDisruptionBudget.
//
// A kind here is the upstream kind of group policy under another group name, as in
// apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=policy.keelson.dev
package v1
