package admissionhooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/gateway/table"
)

// Options are what hooks need.
type Options struct {
	// Table says which kinds are Keelson's.
	Table *table.Table
	// Config reaches the API server, to watch configurations and to ask what policies ask
	// their authorizer.
	Config *rest.Config
	// Mapper finds the resources of the parameters of policies.
	Mapper meta.RESTMapper
	// Service returns the Service that a webhook names, in its plain form; an error that is
	// "not found" is the caller's to see.
	Service func(ctx context.Context, namespace, name string) (*corev1.Service, error)
	// Side says what this process sees.
	Side Side
	// Changed is called when other points are covered than before. It must not block.
	Changed func()
}

// Hooks evaluates what is configured. It is safe for concurrent use.
type Hooks struct {
	options Options
	client  kubernetes.Interface
	all     []known
	objects admission.ObjectInterfaces

	// started is closed when the first list of every configuration is there.
	started chan struct{}
	// now is what is configured; a request looks at nothing else.
	now atomic.Pointer[[]covered]

	// mu guards the building of plug-ins, which happens when configurations change.
	mu        sync.Mutex
	factory   informers.SharedInformerFactory
	informers map[string]cache.SharedIndexInformer
	plugins   map[string]admission.Interface
}

// covered is one plug-in with the points that something is configured for.
type covered struct {
	kind     pluginKind
	plugin   admission.Interface
	points   map[Point]bool
	buildErr error
}

// New prepares hooks; Start makes them work.
func New(options Options) (*Hooks, error) {
	client, err := kubernetes.NewForConfig(options.Config)
	if err != nil {
		return nil, fmt.Errorf("build the client of admission hooks: %w", err)
	}
	return &Hooks{
		options: options, client: client, all: knownPoints(options.Table.Rows(), options.Side), objects: newInterfaces(options.Table.Rows()),
		started: make(chan struct{}), informers: map[string]cache.SharedIndexInformer{}, plugins: map[string]admission.Interface{},
	}, nil
}

// Start watches the configurations until ctx ends. It is to be called once.
func (h *Hooks) Start(ctx context.Context) error {
	kinds, err := h.awaitKinds(ctx)
	if err != nil {
		return nil // ctx ended
	}
	h.factory = informers.NewSharedInformerFactoryWithOptions(h.client, 0, informers.WithTransform(h.transform))
	defer h.factory.Shutdown()
	changed := make(chan struct{}, 1)
	tell := func(any) {
		select {
		case changed <- struct{}{}:
		default: // a look is due already
		}
	}
	var synced []cache.InformerSynced
	for _, kind := range kinds {
		h.informers[kind.name] = kind.informer(h.factory)
		handle, err := h.informers[kind.name].AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: tell, UpdateFunc: func(_, now any) { tell(now) }, DeleteFunc: tell,
		})
		if err != nil {
			return fmt.Errorf("watch for %s: %w", kind.name, err)
		}
		synced = append(synced, handle.HasSynced)
	}
	h.factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // ctx ended
	}
	h.refresh(ctx, kinds)
	close(h.started)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			h.refresh(ctx, kinds)
		}
	}
}

// Ready says whether configurations are known.
func (h *Hooks) Ready() error {
	select {
	case <-h.started:
		return nil
	default:
		return errors.New("webhooks and admission policies are not listed yet")
	}
}

func (h *Hooks) transform(object any) (any, error) {
	narrowObject(h.all, object)
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// refresh looks at everything that is configured, and builds what is needed for it.
func (h *Hooks) refresh(ctx context.Context, kinds []pluginKind) {
	var now []covered
	for _, kind := range kinds {
		c := covered{kind: kind, points: map[Point]bool{}}
		for _, object := range h.informers[kind.name].GetStore().List() {
			for _, point := range pointsOf(h.all, object) {
				c.points[point] = true
			}
		}
		if len(c.points) > 0 {
			c.plugin, c.buildErr = h.plugin(ctx, kind)
		}
		now = append(now, c)
	}
	before := h.now.Swap(&now)
	if h.options.Changed != nil && (before == nil || !slices.EqualFunc(*before, now, func(a, b covered) bool { return maps.Equal(a.points, b.points) })) {
		h.options.Changed()
	}
}

// plugin returns the plug-in of a kind, and builds it when it is needed first.
func (h *Hooks) plugin(ctx context.Context, kind pluginKind) (admission.Interface, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if built, ok := h.plugins[kind.name]; ok {
		return built, nil
	}
	built, err := h.build(ctx, kind)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Could not set up an admission plug-in", "plugin", kind.name)
		return nil, err
	}
	h.plugins[kind.name] = built
	return built, nil
}

// Points returns what hooks are configured for: what changes objects, and what judges
// them. ok is false as long as that is not known.
func (h *Hooks) Points() (mutating, validating map[Point]bool, ok bool) {
	now := h.now.Load()
	if now == nil {
		return nil, nil, false
	}
	mutating, validating = map[Point]bool{}, map[Point]bool{}
	for _, c := range *now {
		if c.kind.mutating {
			maps.Copy(mutating, c.points)
		} else {
			maps.Copy(validating, c.points)
		}
	}
	return mutating, validating, true
}

// startPatience is how long a request waits for the first list of configurations, as long
// as upstream's plug-ins make it wait.
const startPatience = 10 * time.Second

// applying returns the plug-ins that something is configured in for a point.
func (h *Hooks) applying(ctx context.Context, point Point, mutating bool) ([]covered, error) {
	wait, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	select {
	case <-h.started:
	case <-wait.Done():
		return nil, apierrors.NewServiceUnavailable("webhooks and admission policies are not listed yet")
	}
	var applying []covered
	for _, c := range *h.now.Load() {
		if c.kind.mutating == mutating && c.points[point] {
			if c.buildErr != nil {
				return nil, apierrors.NewInternalError(fmt.Errorf("set up %s: %w", c.kind.name, c.buildErr))
			}
			applying = append(applying, c)
		}
	}
	return applying, nil
}
