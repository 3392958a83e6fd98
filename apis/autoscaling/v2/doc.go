// Package v2 holds the kinds of API group autoscaling.keelson.dev/v2: Keelson's
// HorizontalPodAutoscaler.
//
// A kind here is the upstream kind of group autoscaling under another group name, as in
// apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=autoscaling.keelson.dev
package v2
