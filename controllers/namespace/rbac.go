package namespace

// What this package may do in the API, in standalone mode only: a namespace goes with
// objects of every kind, known or not.
// `make manifests` writes it to config/rbac.
//
// +kubebuilder:rbac:groups=*,resources=*,verbs=get;list;watch;delete;deletecollection
// +kubebuilder:rbac:groups="",resources=namespaces/finalize;namespaces/status,verbs=update;patch
