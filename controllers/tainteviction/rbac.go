package tainteviction

// What this package may do in the API. `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods/status,verbs=get;update;patch
