// Package v1 holds the kinds of API group core.keelson.dev/v1: Keelson's Pod,
// Node, ReplicationController, Service and Endpoints.
//
// A kind here is the upstream kind of the core group under another group name.
// Specs are the upstream structs themselves, so a manifest works after a change
// of its apiVersion, and conversion (conversion.go) is a struct copy. The one
// addition is status.summary: strings and numbers for the columns of
// `kubectl get` that JSONPath cannot compute.
//
// The package must stay importable by anybody: it depends on k8s.io/api and
// apimachinery only, and it holds no behaviour beyond conversion.
//
// +kubebuilder:object:generate=true
// +groupName=core.keelson.dev
package v1
