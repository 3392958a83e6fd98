package deployment

// What this package may do in the API. blockOwnerDeletion in an owner reference asks for
// the finalizers where the API server runs OwnerReferencesPermissionEnforcement.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=deployments,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=deployments/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=deployments/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets,verbs=get;list;watch;create;patch;delete
