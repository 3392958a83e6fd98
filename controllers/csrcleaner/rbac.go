package csrcleaner

// What this package may do in the API, in standalone mode only. `make manifests` writes
// it to config/rbac.
//
// +kubebuilder:rbac:groups=certificates.k8s.io,resources=certificatesigningrequests,verbs=get;list;watch;delete
