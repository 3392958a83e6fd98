package loadbalancer

// What this package may do in the API.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services/status,verbs=get;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=keelson-node-lease,resources=leases,verbs=get;list;watch
