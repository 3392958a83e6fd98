package endpointslicemirroring

// What this package may do in the API. Finalizers: a mirror blocks the deletion of its owner.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services;endpoints,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=endpoints/finalizers,verbs=update
// +kubebuilder:rbac:groups=discovery.keelson.dev,resources=endpointslices,verbs=get;list;watch;create;update;patch;delete
