package replicaset

// What this package may do in the API. blockOwnerDeletion in an owner reference asks for
// the finalizers where the API server runs OwnerReferencesPermissionEnforcement.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=replicationcontrollers,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets/finalizers,verbs=update
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=namespaces;serviceaccounts,verbs=get;list;watch
