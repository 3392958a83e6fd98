package agent

import (
	"fmt"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	networkingv1 "github.com/keelson-dev/keelson/apis/networking/v1"
	"github.com/keelson-dev/keelson/nodeagent/downward"
)

// api is how the agent reaches the API server: a client that always asks it, and a
// cache of watches.
type api struct {
	client client.Client
	// watch is the client that can also watch single objects.
	watch  client.WithWatch
	cache  cache.Cache
	scheme *runtime.Scheme
	config *rest.Config
}

// newAPI returns both for the node called name. It asks the server nothing: which
// kinds exist is known, so that the agent can start while the server is away.
func newAPI(config *rest.Config, name string) (*api, error) {
	config = rest.CopyConfig(config)
	config.UserAgent = "keelson-node"
	config.QPS = -1 // the API server's priority and fairness decides

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{keelsonv1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme, addCore, addLeases, addReviews, addRuntimeClasses, addCertificates} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("building the scheme: %w", err)
		}
	}
	mapper := newMapper()
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("building the API client: %w", err)
	}
	watches, err := cache.New(config, cache.Options{
		Scheme: scheme, Mapper: mapper, ReaderFailOnMissingInformer: true,
		DefaultTransform:             stripForCache,
		DefaultUnsafeDisableDeepCopy: new(true), // this program never changes what it reads
		ByObject: map[client.Object]cache.ByObject{
			&keelsonv1.Pod{}:  {Field: fields.OneTermEqualSelector("spec.nodeName", name)},
			&keelsonv1.Node{}: {Field: fields.OneTermEqualSelector("metadata.name", name)},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("building the cache: %w", err)
	}
	return &api{client: c, watch: c, cache: watches, scheme: scheme, config: config}, nil
}

// addCore and its like register only what is used of the big built-in groups.
func addCore(s *runtime.Scheme) error {
	s.AddKnownTypes(corev1.SchemeGroupVersion, &corev1.Event{}, &corev1.ServiceAccount{},
		&corev1.ConfigMap{}, &corev1.ConfigMapList{}, &corev1.Secret{}, &corev1.SecretList{}, &corev1.Namespace{}, &corev1.NamespaceList{})
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	return nil
}

func addLeases(s *runtime.Scheme) error {
	s.AddKnownTypes(coordinationv1.SchemeGroupVersion, &coordinationv1.Lease{})
	metav1.AddToGroupVersion(s, coordinationv1.SchemeGroupVersion)
	return nil
}

func addCertificates(s *runtime.Scheme) error {
	s.AddKnownTypes(certificatesv1.SchemeGroupVersion, &certificatesv1.ClusterTrustBundle{}, &certificatesv1.ClusterTrustBundleList{},
		&certificatesv1.PodCertificateRequest{}, &certificatesv1.PodCertificateRequestList{})
	metav1.AddToGroupVersion(s, certificatesv1.SchemeGroupVersion)
	return nil
}

func addReviews(s *runtime.Scheme) error {
	s.AddKnownTypes(authenticationv1.SchemeGroupVersion, &authenticationv1.TokenReview{}, &authenticationv1.TokenRequest{})
	metav1.AddToGroupVersion(s, authenticationv1.SchemeGroupVersion)
	s.AddKnownTypes(authorizationv1.SchemeGroupVersion, &authorizationv1.SubjectAccessReview{})
	metav1.AddToGroupVersion(s, authorizationv1.SchemeGroupVersion)
	return nil
}

func newMapper() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{
		keelsonv1.GroupVersion, discoveryv1.GroupVersion, networkingv1.GroupVersion, corev1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
		authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion, nodev1.SchemeGroupVersion,
		certificatesv1.SchemeGroupVersion,
	})
	for _, kind := range []string{"Pod", "Service"} {
		mapper.Add(keelsonv1.GroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(discoveryv1.GroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	mapper.Add(networkingv1.GroupVersion.WithKind("NetworkPolicy"), meta.RESTScopeNamespace)
	mapper.Add(keelsonv1.GroupVersion.WithKind("Node"), meta.RESTScopeRoot)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	for _, kind := range []string{"Event", "ConfigMap", "Secret", "ServiceAccount"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(coordinationv1.SchemeGroupVersion.WithKind("Lease"), meta.RESTScopeNamespace)
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), meta.RESTScopeRoot)
	mapper.Add(authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview"), meta.RESTScopeRoot)
	mapper.Add(certificatesv1.SchemeGroupVersion.WithKind("ClusterTrustBundle"), meta.RESTScopeRoot)
	mapper.Add(certificatesv1.SchemeGroupVersion.WithKind("PodCertificateRequest"), meta.RESTScopeNamespace)
	mapper.Add(nodev1.SchemeGroupVersion.WithKind("RuntimeClass"), meta.RESTScopeRoot)
	return mapper
}

// stripForCache drops what this program never reads: of kubectl's copy of the manifest
// all but what Pods ask to be told.
func stripForCache(object any) (any, error) {
	o, ok := object.(metav1.Object)
	if !ok {
		return object, nil // a tombstone
	}
	o.SetManagedFields(nil)
	if pod, ok := object.(*keelsonv1.Pod); ok && downward.AsksForAnnotations(&pod.Spec) {
		return object, nil
	}
	if annotations := o.GetAnnotations(); annotations[corev1.LastAppliedConfigAnnotation] != "" {
		kept := make(map[string]string, len(annotations))
		for key, value := range annotations {
			if key != corev1.LastAppliedConfigAnnotation {
				kept[key] = value
			}
		}
		o.SetAnnotations(kept)
	}
	return object, nil
}
