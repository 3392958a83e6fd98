package manager

// What the process itself may do in the API: its namespaces, leader election, events.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch;update
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=keelson-system,resources=leases,verbs=get;list;watch;create;update;patch

// What admission reads of the Pods that controllers make (controllers/internal/podchain).
//
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=limitranges,verbs=get;list;watch
// +kubebuilder:rbac:groups=scheduling.k8s.io,resources=priorityclasses,verbs=get;list;watch
// +kubebuilder:rbac:groups=node.k8s.io,resources=runtimeclasses,verbs=get;list;watch
