package endpointslice

// What this package may do in the API. Finalizers: a slice blocks the deletion of its owner.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services;pods;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services/finalizers,verbs=update
// +kubebuilder:rbac:groups=discovery.keelson.dev,resources=endpointslices,verbs=get;list;watch;create;update;patch;delete
