// Package catalog knows which names the cluster has: Services, the addresses behind
// them, namespaces and, where they are asked for, Pods, read from watches of the API.
//
// It keeps of each object only what an answer needs, and answers from memory alone: an
// API server that is away costs news, not answers. It writes nothing. After a crash
// everything is listed again; until then Synced is false.
package catalog

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	keelsondiscoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// Options say what is read.
type Options struct {
	// Namespaces are the only ones whose names are served; empty: all.
	Namespaces []string
	// NamespaceSelector does the same by labels, Selector narrows Services, slices and
	// Pods; nil: all.
	NamespaceSelector, Selector labels.Selector
	// WithoutEndpoints leaves slices out, WithPods reads Pods.
	WithoutEndpoints, WithPods bool
}

// Catalog answers questions about names. All methods may be called from many goroutines.
type Catalog struct {
	options    Options
	services   *table[*Service]
	slices     *table[*Slice]
	namespaces *table[namespace]
	pods       *table[*Pod]
}

// New returns a Catalog that knows nothing before Run.
func New(o Options, c clock.PassiveClock) *Catalog {
	return &Catalog{
		options: o, services: newTable(c, serviceOf), slices: newTable(c, sliceOf),
		namespaces: newTable(c, namespaceOf(o.NamespaceSelector, o.Namespaces)), pods: newTable(c, podOf),
	}
}

// source is a kind that is watched.
type source struct {
	resource schema.GroupVersionResource
	object   runtime.Object
	selector labels.Selector
	store    cache.ReflectorStore
	synced   func() bool
}

func (c *Catalog) sources() []source {
	list := []source{
		{corev1.SchemeGroupVersion.WithResource("namespaces"), &corev1.Namespace{}, nil, c.namespaces, c.namespaces.synced.Load},
		{keelsonv1.GroupVersion.WithResource("services"), &keelsonv1.Service{}, c.options.Selector, c.services, c.services.synced.Load},
	}
	if !c.options.WithoutEndpoints {
		list = append(list, source{
			keelsondiscoveryv1.GroupVersion.WithResource("endpointslices"), &keelsondiscoveryv1.EndpointSlice{}, c.options.Selector, c.slices, c.slices.synced.Load,
		})
	}
	if c.options.WithPods {
		list = append(list, source{keelsonv1.GroupVersion.WithResource("pods"), &keelsonv1.Pod{}, c.options.Selector, c.pods, c.pods.synced.Load})
	}
	return list
}

// Connect returns what Run needs of an API server.
func Connect(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, keelsonv1.AddToScheme, keelsondiscoveryv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client of the API: %w", err)
	}
	codecs := serializer.NewCodecFactory(scheme)
	c := &Client{groups: map[schema.GroupVersion]rest.Interface{}}
	for _, group := range []schema.GroupVersion{corev1.SchemeGroupVersion, keelsonv1.GroupVersion, keelsondiscoveryv1.GroupVersion} {
		own := rest.CopyConfig(config)
		own.GroupVersion, own.NegotiatedSerializer, own.APIPath = new(group), codecs.WithoutConversion(), "/apis"
		if group.Group == "" {
			own.APIPath = "/api"
		}
		if c.groups[group], err = rest.RESTClientForConfigAndClient(own, client); err != nil {
			return nil, fmt.Errorf("make a client of %s: %w", group, err)
		}
	}
	return c, nil
}

// Client reads the kinds that names are made of.
type Client struct {
	groups map[schema.GroupVersion]rest.Interface
}

// Run reads the API until ctx ends.
func (c *Catalog) Run(ctx context.Context, client *Client) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, s := range c.sources() {
		watch := cache.NewFilteredListWatchFromClient(client.groups[s.resource.GroupVersion()], s.resource.Resource, metav1.NamespaceAll,
			func(o *metav1.ListOptions) {
				if s.selector != nil {
					o.LabelSelector = s.selector.String()
				}
			})
		reflector := cache.NewReflectorWithOptions(watch, s.object, s.store, cache.ReflectorOptions{Name: s.resource.Resource})
		all.Go(func() { reflector.RunWithContext(ctx) })
	}
}

// Synced says that everything has been read once.
func (c *Catalog) Synced() bool {
	for _, s := range c.sources() {
		if !s.synced() {
			return false
		}
	}
	return true
}

// Modified is when a name last changed, to the second.
func (c *Catalog) Modified() time.Time {
	last := c.namespaces.lastModified()
	for _, t := range []time.Time{c.services.lastModified(), c.slices.lastModified(), c.pods.lastModified()} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// Namespace says whether there is such a namespace and its names are served.
func (c *Catalog) Namespace(name string) bool {
	_, ok := c.namespaces.get(Key{Name: strings.ToLower(name)})
	return ok
}

// Service returns the Service with that name, nil when there is none.
func (c *Catalog) Service(key Key) *Service {
	s, _ := c.services.get(key)
	return s
}

// ServicesAt returns the Services with that cluster address.
func (c *Catalog) ServicesAt(address string) []*Service { return c.services.find(address) }

// Slices returns the slices of a Service.
func (c *Catalog) Slices(service Key) []*Slice { return c.slices.find(serviceTerm(service)) }

// SlicesAt returns the slices with that address.
func (c *Catalog) SlicesAt(address string) []*Slice { return c.slices.find(address) }

// PodsAt returns the Pods with that address.
func (c *Catalog) PodsAt(address string) []*Pod { return c.pods.find(address) }

// Load gives the catalog all there is, as the first lists of Run do.
func (c *Catalog) Load(objects ...runtime.Object) error {
	sorted := map[cache.ReflectorStore][]any{}
	for _, s := range c.sources() {
		sorted[s.store] = nil
		for _, object := range objects {
			if reflect.TypeOf(object) == reflect.TypeOf(s.object) {
				sorted[s.store] = append(sorted[s.store], object)
			}
		}
	}
	for store, objects := range sorted {
		if err := store.Replace(objects, ""); err != nil {
			return err
		}
	}
	return nil
}
