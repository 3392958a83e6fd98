package rootca

// What this package may do in the API, in standalone mode only.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;patch
