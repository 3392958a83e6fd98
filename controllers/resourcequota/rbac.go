package resourcequota

// What this package may do in the API. Quotas that count other kinds than these need the
// right to list and watch them, which standalone mode has for all kinds.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=resourcequotas,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=resourcequotas/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods;services,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=configmaps;secrets;persistentvolumeclaims,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev;apps.keelson.dev;batch.keelson.dev;autoscaling.keelson.dev;policy.keelson.dev,resources=*,verbs=list;watch
