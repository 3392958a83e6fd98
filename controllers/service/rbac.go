package service

// What this package may do in the API.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services/finalizers,verbs=update
// +kubebuilder:rbac:groups=core.keelson.dev,resources=endpoints,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=discovery.keelson.dev,resources=endpointslices,verbs=get;list;watch;create;update;patch;delete
//
// Which API servers there are, from the slices that they write of themselves.
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=get;list;watch
