package manager

// What the process itself may do in the API: its namespaces, leader election, events.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch;update
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=keelson-system,resources=leases,verbs=get;list;watch;create;update;patch
