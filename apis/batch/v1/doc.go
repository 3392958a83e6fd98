// Package v1 holds the kinds of API group batch.keelson.dev/v1: Keelson's
// Job and CronJob.
//
// A kind here is the upstream kind of group batch under another group name, as in
// apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=batch.keelson.dev
package v1
