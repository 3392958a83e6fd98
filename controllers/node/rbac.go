package node

// What this package may do in the API. The Lease of a Node that is gone is deleted.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes,verbs=get;list;watch;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes/status,verbs=get;update;patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=keelson-node-lease,resources=leases,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods/status,verbs=get;update;patch
