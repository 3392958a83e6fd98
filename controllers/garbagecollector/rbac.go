package garbagecollector

// What this package may do in the API, in standalone mode only: it follows owner
// references between objects of every kind, known or not.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=*,resources=*,verbs=get;list;watch;patch;delete
