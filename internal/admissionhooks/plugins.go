package admissionhooks

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/admission"
	policymutating "k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	policyvalidating "k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	webhookmutating "k8s.io/apiserver/pkg/admission/plugin/webhook/mutating"
	webhookvalidating "k8s.io/apiserver/pkg/admission/plugin/webhook/validating"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/util/proxy"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// pluginKind is one of upstream's plug-ins.
type pluginKind struct {
	// name is upstream's of the plug-in.
	name string
	// needs are the resources of admissionregistration.k8s.io/v1 that it reads.
	needs    []string
	mutating bool
	informer func(informers.SharedInformerFactory) cache.SharedIndexInformer
	build    func() (initialized, error)
}

// pluginKinds are in upstream's order.
func pluginKinds() []pluginKind {
	return []pluginKind{
		{
			name: policymutating.PluginName, mutating: true, needs: []string{"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"},
			informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
				return f.Admissionregistration().V1().MutatingAdmissionPolicies().Informer()
			},
			build: func() (initialized, error) {
				plugin, err := policymutating.NewPlugin(nil)
				if err == nil {
					plugin.SetEnabled(true)
				}
				return plugin, err
			},
		},
		{
			name: webhookmutating.PluginName, mutating: true, needs: []string{"mutatingwebhookconfigurations"},
			informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
				return f.Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
			},
			build: func() (initialized, error) { return webhookmutating.NewMutatingWebhook(nil) },
		},
		{
			name: policyvalidating.PluginName, needs: []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"},
			informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
				return f.Admissionregistration().V1().ValidatingAdmissionPolicies().Informer()
			},
			build: func() (initialized, error) { return policyvalidating.NewPlugin(nil) },
		},
		{
			name: webhookvalidating.PluginName, needs: []string{"validatingwebhookconfigurations"},
			informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
				return f.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
			},
			build: func() (initialized, error) { return webhookvalidating.NewValidatingAdmissionWebhook(nil) },
		},
	}
}

// initialized is a plug-in that wants to be given what it works with.
type initialized interface {
	admission.Interface
	admission.InitializationValidator
	SetExternalKubeInformerFactory(informers.SharedInformerFactory)
	SetUnconditionalAuthorizer(authorizer.UnconditionalAuthorizer)
	SetDrainedNotification(<-chan struct{})
}

// servedKinds are the plug-ins whose configurations the API server has. An older one,
// which only lends its storage, may lack some.
func (h *Hooks) servedKinds() ([]pluginKind, error) {
	list, err := h.client.Discovery().ServerResourcesForGroupVersion(admissionregistrationv1.SchemeGroupVersion.String())
	if err != nil {
		return nil, fmt.Errorf("find the kinds of %s: %w", admissionregistrationv1.SchemeGroupVersion, err)
	}
	served := sets.New[string]()
	for i := range list.APIResources {
		served.Insert(list.APIResources[i].Name)
	}
	var kinds []pluginKind
	for _, kind := range pluginKinds() {
		if served.HasAll(kind.needs...) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}

// kindsPeriod is the time between two looks at an API server that does not answer.
const kindsPeriod = time.Second

// awaitKinds is servedKinds as soon as the API server answers; an error means that ctx
// ended.
func (h *Hooks) awaitKinds(ctx context.Context) ([]pluginKind, error) {
	var kinds []pluginKind
	said := ""
	err := wait.PollUntilContextCancel(ctx, kindsPeriod, true, func(ctx context.Context) (bool, error) {
		var err error
		if kinds, err = h.servedKinds(); err != nil && err.Error() != said {
			said = err.Error()
			klog.FromContext(ctx).Info("Waiting for the API server", "reason", said)
		}
		return err == nil, nil
	})
	return kinds, err
}

// build makes a plug-in that works until ctx ends.
func (h *Hooks) build(ctx context.Context, kind pluginKind) (admission.Interface, error) {
	plugin, err := kind.build()
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", kind.name, err)
	}
	ask, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: h.client.AuthorizationV1(),
		AllowCacheTTL:             reviewTTL,
		DenyCacheTTL:              reviewTTL,
		WebhookRetryBackoff:       &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 3},
	}.New()
	if err != nil {
		return nil, fmt.Errorf("build the authorizer of %s: %w", kind.name, err)
	}
	plugin.SetUnconditionalAuthorizer(ask)
	plugin.SetDrainedNotification(ctx.Done())
	plugin.SetExternalKubeInformerFactory(h.factory)
	if err := h.complete(plugin); err != nil {
		return nil, err
	}
	if err := plugin.ValidateInitialization(); err != nil {
		return nil, fmt.Errorf("initialize %s: %w", kind.name, err)
	}
	h.factory.Start(ctx.Done())
	return plugin, nil
}

// reviewTTL is how long an answer about a right is good, as in upstream's servers.
const reviewTTL = 10 * time.Second

// complete gives a plug-in what only some of them want.
func (h *Hooks) complete(plugin any) error {
	switch plugin := plugin.(type) {
	case *policymutating.Plugin:
		return h.completePolicies(plugin)
	case *policyvalidating.Plugin:
		return h.completePolicies(plugin)
	case *webhookmutating.Plugin:
		plugin.SetExternalKubeClientSet(h.client)
		plugin.SetServiceResolver(resolver(h.options.Service))
		return nil
	case *webhookvalidating.Plugin:
		plugin.SetExternalKubeClientSet(h.client)
		plugin.SetServiceResolver(resolver(h.options.Service))
		return nil
	}
	return errors.New("an admission plug-in that nobody knows")
}

// policies is what both plug-ins of policies want.
type policies interface {
	SetExternalKubeClientSet(kubernetes.Interface)
	SetRESTMapper(meta.RESTMapper)
	SetDynamicClient(dynamic.Interface)
}

func (h *Hooks) completePolicies(plugin policies) error {
	client, err := dynamic.NewForConfig(h.options.Config)
	if err != nil {
		return fmt.Errorf("build the client of parameters of policies: %w", err)
	}
	plugin.SetExternalKubeClientSet(h.client)
	plugin.SetRESTMapper(h.options.Mapper)
	plugin.SetDynamicClient(client)
	return nil
}

// serviceTimeout bounds the look for a Service, which is answered from a cache.
const serviceTimeout = 5 * time.Second

// resolver finds Keelson's Services by upstream's rules.
type resolver func(ctx context.Context, namespace, name string) (*corev1.Service, error)

// ResolveEndpoint implements the plug-ins' ServiceResolver, which has no context.
func (r resolver) ResolveEndpoint(namespace, name string, port int32) (*url.URL, error) {
	return proxy.ResolveCluster(lister{get: r}, namespace, name, port)
}

// lister gets Services. Nothing calls the methods that it leaves to upstream's interface.
type lister struct {
	corev1listers.ServiceLister

	get resolver
}

// Services implements corev1listers.ServiceLister.
func (l lister) Services(namespace string) corev1listers.ServiceNamespaceLister {
	return ofNamespace{get: l.get, namespace: namespace}
}

// List implements corev1listers.ServiceLister; nothing calls it.
func (lister) List(labels.Selector) ([]*corev1.Service, error) { return nil, errNoList }

// ofNamespace gets the Services of a namespace.
type ofNamespace struct {
	corev1listers.ServiceNamespaceLister

	get       resolver
	namespace string
}

// Get implements corev1listers.ServiceNamespaceLister.
func (n ofNamespace) Get(name string) (*corev1.Service, error) {
	ctx, cancel := context.WithTimeout(context.Background(), serviceTimeout)
	defer cancel()
	return n.get(ctx, n.namespace, name)
}

// List implements corev1listers.ServiceNamespaceLister; nothing calls it.
func (ofNamespace) List(labels.Selector) ([]*corev1.Service, error) { return nil, errNoList }

var errNoList = errors.New("services are looked up by name here")
