package admission

// What admission may do in the API. The dry run creates built-in objects that are never
// stored, in Keelson's own namespace; a Node has none. Certificates are kept in a Secret
// that all replicas share, and the registration of the webhook carries their authority.
// A Pod gets what its ServiceAccount says.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups="",resources=nodes,verbs=create
// +kubebuilder:rbac:groups="",namespace=keelson-system,resources=pods;services;endpoints;replicationcontrollers;podtemplates;limitranges;resourcequotas,verbs=create
// +kubebuilder:rbac:groups=apps,namespace=keelson-system,resources=replicasets;deployments;daemonsets;statefulsets;controllerrevisions,verbs=create
// +kubebuilder:rbac:groups=batch,namespace=keelson-system,resources=jobs;cronjobs,verbs=create
// +kubebuilder:rbac:groups=autoscaling,namespace=keelson-system,resources=horizontalpodautoscalers,verbs=create
// +kubebuilder:rbac:groups=policy,namespace=keelson-system,resources=poddisruptionbudgets,verbs=create
// +kubebuilder:rbac:groups=discovery.k8s.io,namespace=keelson-system,resources=endpointslices,verbs=create
// +kubebuilder:rbac:groups=networking.k8s.io,namespace=keelson-system,resources=networkpolicies,verbs=create
// +kubebuilder:rbac:groups="",namespace=keelson-system,resources=serviceaccounts,verbs=get;create
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch
// +kubebuilder:rbac:groups="",namespace=keelson-system,resources=secrets,verbs=get;list;watch;create;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=services;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods;nodes,verbs=get
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations;validatingwebhookconfigurations,verbs=list;watch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=mutatingwebhookconfigurations;validatingwebhookconfigurations,resourceNames=keelson,verbs=get;update;patch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=resourcequotas,verbs=get;list;watch
// +kubebuilder:rbac:groups=core.keelson.dev,resources=resourcequotas/status,verbs=update;patch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies;validatingadmissionpolicybindings;mutatingadmissionpolicies;mutatingadmissionpolicybindings,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
