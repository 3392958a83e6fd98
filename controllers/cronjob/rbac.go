package cronjob

// What this package may do in the API. blockOwnerDeletion in an owner reference asks for
// the finalizers where the API server runs OwnerReferencesPermissionEnforcement.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=cronjobs,verbs=get;list;watch
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=cronjobs/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=cronjobs/finalizers,verbs=update
// +kubebuilder:rbac:groups=batch.keelson.dev,resources=jobs,verbs=get;list;watch;create;delete
