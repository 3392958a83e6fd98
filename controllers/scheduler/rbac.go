package scheduler

// What this package may do in the API.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch;update;patch;delete
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes;services;replicationcontrollers,verbs=get;list;watch
// +kubebuilder:rbac:groups=apps.keelson.dev,resources=replicasets;statefulsets,verbs=get;list;watch
// +kubebuilder:rbac:groups=policy.keelson.dev,resources=poddisruptionbudgets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
