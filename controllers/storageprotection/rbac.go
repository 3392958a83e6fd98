package storageprotection

// What this package may do in the API, in standalone mode only. `make manifests` writes
// it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims;persistentvolumes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=storage.k8s.io,resources=volumeattributesclasses,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch
