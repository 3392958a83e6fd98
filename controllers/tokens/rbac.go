package tokens

// What this package may do in the API, in standalone mode only. `make manifests` writes
// it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;patch;delete
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch
