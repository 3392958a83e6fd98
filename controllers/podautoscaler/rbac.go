package podautoscaler

// What this package may do in the API: read what is measured at the agents of the nodes,
// and scale any kind that can be scaled. `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=autoscaling.keelson.dev,resources=horizontalpodautoscalers,verbs=get;list;watch
// +kubebuilder:rbac:groups=autoscaling.keelson.dev,resources=horizontalpodautoscalers/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="*",resources="*/scale",verbs=get;update
// +kubebuilder:rbac:groups="",resources=nodes/stats,verbs=get
