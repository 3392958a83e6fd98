package disruption

// What this package may do in the API. The scale of an owner of any kind says how many
// Pods there should be. `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=policy.keelson.dev,resources=poddisruptionbudgets,verbs=get;list;watch
// +kubebuilder:rbac:groups=policy.keelson.dev,resources=poddisruptionbudgets/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods;replicationcontrollers,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets;deployments;statefulsets,verbs=get;list;watch
// +kubebuilder:rbac:groups="*",resources="*/scale",verbs=get
