package endpoints

// What this package may do in the API.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services;pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=endpoints,verbs=get;list;watch;create;update;patch;delete
