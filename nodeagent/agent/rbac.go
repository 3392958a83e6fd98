package agent

// What a node agent may do in the API. config/policy narrows the writes to its own Node,
// its own Lease and the Pods bound to it, of which it makes and deletes mirrors only.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch;create;delete;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=nodes/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services,verbs=get;list;watch
// +kubebuilder:rbac:groups=discovery.keelson.dev,resources=endpointslices,verbs=get;list;watch
// +kubebuilder:rbac:groups=networking.keelson.dev,resources=networkpolicies,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch;update
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=keelson-node-lease,resources=leases,verbs=get;create;update;patch
// +kubebuilder:rbac:groups=node.k8s.io,resources=runtimeclasses,verbs=get
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=clustertrustbundles,verbs=get;list;watch
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=podcertificaterequests,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
