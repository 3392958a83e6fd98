package ttlafterfinished

// What this package may do in the API. `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=jobs,verbs=get;list;watch;delete
