package clusterroleaggregation

// What this package may do in the API, in standalone mode only. Without escalate it could
// hand on no right that it has not itself. `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,verbs=get;list;watch;patch;escalate
