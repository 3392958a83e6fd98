package garbagecollector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/keelson-dev/keelson/controllers/internal/eventrecorder"
	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

const (
	// recorderName is who events say they are from; upstream's name.
	recorderName = "garbage-collector-controller"

	defaultWorkers = 8
	// defaultDiscoveryPeriod finds kinds that come without a CRD (aggregated APIs).
	defaultDiscoveryPeriod = 30 * time.Second
	// discoveryDelay lets several CRDs that come together cost one discovery.
	discoveryDelay = 500 * time.Millisecond
	// initialSyncTimeout is how long one kind that cannot be listed holds up the
	// others. Starting without it is safe: absence is always verified live.
	initialSyncTimeout = 30 * time.Second
	// syncPoll is how often the first start looks whether all lists are in.
	syncPoll = 50 * time.Millisecond
)

// Options are what the garbage collector can be told; zero values mean defaults.
type Options struct {
	// Workers is how many objects are judged at once.
	Workers int
	// DiscoveryPeriod is the time between two looks for new kinds, besides those
	// that a CRD announces.
	DiscoveryPeriod time.Duration
}

// Add registers the garbage collector with mgr; it runs on the leader.
func Add(mgr ctrl.Manager, o Options) error {
	if o.Workers <= 0 {
		o.Workers = defaultWorkers
	}
	if o.DiscoveryPeriod <= 0 {
		o.DiscoveryPeriod = defaultDiscoveryPeriod
	}
	cfg := rest.CopyConfig(mgr.GetConfig())
	cfg.QPS = -1
	client, err := metadata.NewForConfigAndClient(metadata.ConfigFor(cfg), mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("build a metadata client: %w", err)
	}
	server, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, mgr.GetHTTPClient())
	if err != nil {
		return fmt.Errorf("build a discovery client: %w", err)
	}
	return mgr.Add(newCollector(client, discovery.ToDiscoveryInterfaceWithContext(server), eventrecorder.New(mgr, recorderName), o))
}

type collector struct {
	options Options
	client  metadata.Interface
	server  discovery.DiscoveryInterfaceWithContext

	graph  *graph
	absent *recent[ownerKey]
	// reported are the references that an event has named.
	reported *recent[report]
	recorder events.EventRecorder
	queue    workqueue.TypedRateLimitingInterface[types.UID]
	// rediscover asks for a look at the kinds.
	rediscover chan struct{}

	// mu guards the two below.
	mu       sync.RWMutex
	monitors map[schema.GroupVersionResource]*monitor
	// kinds finds the resource of an owner reference, in any version.
	kinds map[schema.GroupKind]resources.Resource

	// ready is closed when the graph is complete for the first time: before that an
	// owner may seem absent that was only not listed yet.
	ready     chan struct{}
	readyOnce sync.Once
	watching  sync.WaitGroup
}

func newCollector(client metadata.Interface, server discovery.DiscoveryInterfaceWithContext, recorder events.EventRecorder, o Options) *collector {
	return &collector{
		options:    o,
		client:     client,
		server:     server,
		graph:      newGraph(),
		absent:     newRecent[ownerKey](absentOwnersKept),
		reported:   newRecent[report](reportsKept),
		recorder:   recorder,
		rediscover: make(chan struct{}, 1),
		monitors:   map[schema.GroupVersionResource]*monitor{},
		kinds:      map[schema.GroupKind]resources.Resource{},
		ready:      make(chan struct{}),
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[types.UID](50*time.Millisecond, 5*time.Minute),
			workqueue.TypedRateLimitingQueueConfig[types.UID]{Name: "garbagecollector"}),
	}
}

// NeedLeaderElection makes the manager run it on the leader only.
func (c *collector) NeedLeaderElection() bool { return true }

// Start collects until ctx ends.
func (c *collector) Start(ctx context.Context) error {
	ctx = klog.NewContext(ctx, klog.FromContext(ctx).WithName("garbagecollector"))
	var running sync.WaitGroup
	running.Go(func() { c.followKinds(ctx) })
	running.Go(func() { c.openWhenSynced(ctx) })
	for range c.options.Workers {
		running.Go(func() { c.work(ctx) })
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
	c.watching.Wait()
	return nil
}

// openWhenSynced lets the workers begin when every list is in.
func (c *collector) openWhenSynced(ctx context.Context) {
	tick := time.NewTicker(syncPoll)
	defer tick.Stop()
	deadline := time.NewTimer(initialSyncTimeout)
	defer deadline.Stop()
	for late := false; !late && !c.allSynced(); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-deadline.C:
			late = true
			klog.FromContext(ctx).Info("Starting although some kinds could not be listed yet")
		}
	}
	c.readyOnce.Do(func() { close(c.ready) })
	c.enqueue(c.graph.toLookAt())
	klog.FromContext(ctx).Info("Watching the owners of all objects", "kinds", c.following())
}

func (c *collector) allSynced() bool {
	return c.following() > 0 && len(c.unlisted()) == 0
}

// unlisted names the resources whose objects are not all in the graph yet.
func (c *collector) unlisted() []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var names []string
	for gvr, m := range c.monitors {
		if !m.synced.Load() {
			names = append(names, gvr.GroupResource().String())
		}
	}
	slices.Sort(names)
	return names
}

func (c *collector) following() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.monitors)
}

// enqueue is silent until the graph is complete; toLookAt catches up then.
func (c *collector) enqueue(affected []types.UID) {
	select {
	case <-c.ready:
	default:
		return
	}
	for _, uid := range affected {
		c.queue.Add(uid)
	}
}

// followKinds keeps one monitor per resource.
func (c *collector) followKinds(ctx context.Context) {
	logger := klog.FromContext(ctx)
	said := ""
	for {
		complaint := ""
		if unknown, err := c.syncKinds(ctx); err != nil {
			complaint = err.Error()
		} else if len(unknown) > 0 {
			complaint = unknown.Error()
		}
		if complaint != said && complaint != "" && ctx.Err() == nil {
			logger.Info("Some kinds are not known, keeping what was known of them", "reason", complaint)
		}
		said = complaint
		if !c.waitForKinds(ctx) {
			return
		}
	}
}

// waitForKinds returns when the kinds are worth another look; false ends it.
func (c *collector) waitForKinds(ctx context.Context) bool {
	period := time.NewTimer(c.options.DiscoveryPeriod)
	defer period.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-period.C:
		return true
	case <-c.rediscover:
	}
	delay := time.NewTimer(discoveryDelay)
	defer delay.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-delay.C:
		return true
	}
}

// syncKinds starts and stops monitors so that they match what the server serves.
func (c *collector) syncKinds(ctx context.Context) (resources.UnknownError, error) {
	all, unknown, err := resources.Discover(ctx, c.server)
	if err != nil {
		return nil, err
	}
	wanted := map[schema.GroupVersionResource]resources.Resource{}
	for _, r := range collectable(all) {
		wanted[r.GroupVersionResource] = r
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for gvr, m := range c.monitors {
		if _, still := wanted[gvr]; still || unknown.HasGroup(gvr.Group) {
			continue
		}
		m.stop()
		<-m.done // or it would take the objects of its successor out of the graph
		delete(c.monitors, gvr)
		delete(c.kinds, m.resource.GroupKind())
	}
	for _, r := range all {
		if r.Supports("get") {
			c.kinds[r.GroupKind()] = r
		}
	}
	for gvr, r := range wanted {
		if _, running := c.monitors[gvr]; !running {
			c.monitors[gvr] = c.startMonitor(ctx, r)
		}
	}
	return unknown, nil
}

func (c *collector) startMonitor(ctx context.Context, r resources.Resource) *monitor {
	ctx, stop := context.WithCancel(ctx)
	m := &monitor{resource: &r, graph: c.graph, affected: c.enqueue, changed: c.kindChanged, stop: stop, done: make(chan struct{})}
	c.watching.Go(func() {
		defer close(m.done)
		m.run(ctx, c.client)
		// A kind that is served no longer takes its objects with it.
		c.enqueue(c.graph.removeAbsent(r.GroupVersionResource, nil))
	})
	return m
}

func (c *collector) kindChanged(resource schema.GroupResource) {
	if resource != customResources {
		return
	}
	select {
	case c.rediscover <- struct{}{}:
	default:
	}
}

// work judges objects until the queue is shut down. A failure is tried again for
// ever, at most every five minutes.
func (c *collector) work(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.ready:
	}
	logger := klog.FromContext(ctx)
	for {
		uid, shutdown := c.queue.Get()
		if shutdown {
			return
		}
		switch err := c.collect(ctx, uid); {
		case err == nil:
			c.queue.Forget(uid)
		case ctx.Err() != nil:
		case isRace(err):
			c.queue.AddRateLimited(uid)
		default:
			logger.Error(err, "Will try again", "uid", uid)
			c.queue.AddRateLimited(uid)
		}
		c.queue.Done(uid)
	}
}
