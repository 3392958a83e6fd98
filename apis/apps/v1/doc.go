// Package v1 holds the kinds of API group apps.keelson.dev/v1: Keelson's
// ReplicaSet, Deployment, DaemonSet, StatefulSet and ControllerRevision.
//
// A kind here is the upstream kind of group apps under another group name, as in
// apis/core/v1, whose package comment says what holds for all kinds.
//
// +kubebuilder:object:generate=true
// +groupName=apps.keelson.dev
package v1
