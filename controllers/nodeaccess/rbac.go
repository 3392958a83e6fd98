package nodeaccess

// What this controller may do in the API. The API server lets it grant only what it may
// do itself, which is why it has the rights that agents need; it uses none of them.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=core.keelson.dev,resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups="",resources=configmaps;secrets,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=serviceaccounts/token,verbs=create
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=podcertificaterequests,verbs=create
