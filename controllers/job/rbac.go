package job

// What this package may do in the API. blockOwnerDeletion in an owner reference asks for
// the finalizers where the API server runs OwnerReferencesPermissionEnforcement. The spec
// of a Job is patched once, with the selector that follows from its UID.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=jobs,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=jobs/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=jobs/finalizers,verbs=update
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=namespaces;serviceaccounts,verbs=get;list;watch
