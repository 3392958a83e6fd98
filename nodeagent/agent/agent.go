package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/keelson-dev/keelson/nodeagent/eviction"
	"github.com/keelson-dev/keelson/nodeagent/hooks"
	"github.com/keelson-dev/keelson/nodeagent/hostfiles"
	"github.com/keelson-dev/keelson/nodeagent/images"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/objects"
	"github.com/keelson-dev/keelson/nodeagent/podcerts"
	"github.com/keelson-dev/keelson/nodeagent/podworker"
	"github.com/keelson-dev/keelson/nodeagent/policy"
	"github.com/keelson-dev/keelson/nodeagent/preload"
	"github.com/keelson-dev/keelson/nodeagent/probes"
	"github.com/keelson-dev/keelson/nodeagent/rotation"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/stats"
	"github.com/keelson-dev/keelson/nodeagent/status"
	"github.com/keelson-dev/keelson/nodeagent/trust"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// relistInterval is the safety net under the runtime's events.
	relistInterval = time.Minute
	// probeInterval is how often the runtime is asked whether it answers.
	probeInterval = 5 * time.Second
	probeTimeout  = 5 * time.Second
)

// dependencies are the agent's seams to the machine and the API.
type dependencies struct {
	api         *api
	runtime     runtime.Runtime
	streamer    runtime.Streamer
	runtimeName string
	network     podNetwork
	cgroups     podCgroups
	images      lifecycle.Images
	// forgetImages hears which images there are; nil: nobody wants to know.
	forgetImages func([]runtime.StoredImage) error
	// storage looks after images and logs.
	storage runtime.Storage
	// registry takes the agent's metrics; nil in tests.
	registry prometheus.Registerer
	// imageVolumes shows the files of images as volumes.
	imageVolumes volumes.Images
	// proxy is nil when this process runs none.
	proxy serviceProxy
	// users gives Pods user IDs of their own; mapsUsers says why this machine cannot, nil
	// where nobody asks.
	users     lifecycle.Users
	mapsUsers func() error
	// appArmor says that this machine confines processes.
	appArmor bool
	// policies enforces NetworkPolicies; nil in tests.
	policies *policy.Enforcer
	clock    clock.WithTickerAndDelayedExecution
}

// podCgroups is *cgroups.Manager.
type podCgroups interface {
	lifecycle.Cgroups
	// SetBurstable weighs all burstable Pods together.
	SetBurstable(shares uint64) error
}

// errNotSynced says that nothing is known of the Pods of this node.
var errNotSynced = errors.New("the Pods of this node have not been read from the API server yet")

// agent runs the Pods of one node.
type agent struct {
	dependencies
	options  *Options
	settings settings

	reporter *node.Reporter
	writer   *status.Writer
	manager  *lifecycle.Manager
	probes   *probes.Manager
	pool     *podworker.Pool
	ports    *portTable
	admitted *admittedPods
	resizes  *resizes
	awaited  awaited
	objects  objectCache
	trust    *trust.Cache
	volumes  *volumes.Manager
	static   static
	events   recorder

	// burstable is the weight that the cgroup of burstable Pods has; ready once all Pods
	// are known.
	burstable struct {
		mu     sync.Mutex
		ready  bool
		shares uint64
	}

	condition condition
	// rotation renews the node's own certificates; nil: somebody else does.
	rotation *rotation.Rotation
	// certificates are those that Pods mount.
	certificates *podcerts.Manager
	// serviceChange announces changes of Services; serviceAddressWait is how long a
	// container waits for their addresses.
	serviceChange      announcement
	serviceAddressWait time.Duration
	// configure carries "the Node has changed" to the network loop.
	configure chan struct{}
	// peers are the nodes of the cluster, nil without an overlay.
	peers *peers
	// sweepNow asks for a sweep before its time.
	sweepNow chan struct{}

	sampler   *stats.Sampler
	disks     *stats.Disks
	metrics   *nodeMetrics
	collector *images.Collector
	// preloaded are the images of a folder; nil without one.
	preloaded *preload.Folder
	eviction  *eviction.Manager
}

func newAgent(o *Options, s settings, d dependencies) *agent {
	a := &agent{dependencies: d, options: o, settings: s, serviceAddressWait: serviceAddressWait,
		admitted: newAdmittedPods(), resizes: newResizes(filepath.Join(o.RootDir, lifecycle.PodsFolder)), configure: make(chan struct{}, 1), sweepNow: make(chan struct{}, 1)}
	a.ports = newPortTable(d.proxy)
	a.writer = status.NewWriter(d.api.client, d.clock)
	a.reporter = node.NewReporter(d.api.client, d.clock, s.name, a.facts, func(n node.Note) { a.events.tellOfNode(s.name, n) })
	a.condition.runtimeProblem = "container runtime is down: it has not answered yet"
	a.condition.networkProblem = "container runtime network not ready: the Node has no Pod range (spec.podCIDR) yet"
	a.metrics = newNodeMetrics(d.registry, d.storage, s.name, d.clock)
	a.disks = &stats.Disks{Storage: d.storage, Volumes: a.measureVolumes, Clock: d.clock}
	a.sampler = stats.New(stats.Options{
		NodeName: s.name, Runtime: peekLister{d.storage}, CgroupMount: cgroupMount, PodsCgroup: o.CgroupRoot, ProcMount: procMount,
		RootDir: o.RootDir, Disks: a.disks, Clock: d.clock,
		ImageFolder: func(ctx context.Context) (string, error) { return d.storage.ImageFolder(ctx) },
	})
	a.preloaded = a.newPreloaded()
	if o.Overlay != overlayNone {
		a.peers = newPeers()
	}
	a.collector = a.newCollector()
	a.eviction = a.newEviction(s.thresholds)
	return a
}

// run works until ctx ends.
func (a *agent) run(ctx context.Context) error {
	err := a.work(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (a *agent) work(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	a.objects = objects.NewCache(ctx, a.api.watch, a.clock, func(uid types.UID) { a.pool.Wake(uid) })
	a.trust = trust.NewCache(ctx, a.api.watch, a.clock, func(uid types.UID) { a.pool.Wake(uid) })
	a.certificates = a.newCertificates(ctx)
	a.volumes = a.newVolumes()
	rotator, err := a.newRotator()
	if err != nil {
		stop()
		return err
	}
	a.events = newRecorder(ctx, a.api, a.settings.name)
	options := a.lifecycleOptions()
	a.probes = probes.New(ctx, probes.Options{
		Executor: a.streamer, Clock: a.clock, Record: recordProbes(options.Recorder), Changed: a.probesChanged,
		Observe: a.metrics.probed,
	})
	options.Probes = a.probes
	a.manager = lifecycle.New(options)
	a.pool = podworker.New(ctx, a.manager, a.clock)
	a.static = a.newStatic(ctx)
	a.pool.Left = a.static.set.Left
	a.pool.Ended = a.wakeAwaiting
	var loops sync.WaitGroup
	start := func(loop func(context.Context)) { loops.Go(func() { loop(ctx) }) }
	defer loops.Wait()
	defer a.probes.Wait()
	defer a.pool.Wait()
	defer a.objects.Wait()
	defer a.trust.Wait()
	defer a.certificates.Wait()
	defer stop() // first: the rest waits for loops that end with ctx

	start(a.writer.Run)
	start(a.probeRuntime)
	if a.preloaded != nil {
		start(a.preloaded.Run)
	}
	start(a.reporter.Run)
	start(node.NewLeaseKeeper(a.api.client, a.clock, a.settings.name, a.reporter.Node).Run)
	start(a.keepNetwork)
	if a.peers != nil {
		start(a.runPeers)
	}
	if a.policies != nil {
		start(a.runPolicies)
	}
	events := a.runtime.Events(ctx) // from here on, so that no exit is missed
	start(func(context.Context) { a.followRuntime(events) })
	a.startStatic(ctx, start)
	if err := a.followNode(ctx); err != nil {
		return err
	}
	if err := a.followPods(ctx); err != nil {
		return err
	}
	start(a.sweepLoop)
	start(a.collectContainers)
	start(a.collector.Run)
	start(a.eviction.Run)
	start(rotator.Run)
	<-ctx.Done()
	return nil
}

func (a *agent) lifecycleOptions() lifecycle.Options {
	return lifecycle.Options{
		Runtime: a.runtime, Network: a.networkAdapter(), Images: noticingImages{a.preloadedFirst(a.images), a.collector.Pulled}, Status: a.writer,
		Cgroups: a.cgroups, Recorder: a.events, Services: a.services, Clock: a.clock,
		Volumes:     a.volumes,
		Hooks:       hooks.New(a.streamer, a.clock),
		MayStart:    a.mayStart,
		Users:       a.users,
		RuntimeName: a.runtimeName, HostIPs: a.settings.hostIPs(), Hostname: a.settings.machine.Hostname,
		Capacity: lifecycle.Capacity{Memory: a.settings.machine.MemoryBytes, HugePages: a.settings.pageSizes, PodPIDs: a.options.PodPidsLimit},
		Objects:  a.objects, ForbidPrivileged: !a.options.AllowPrivileged,
		RuntimeHandler: a.api.runtimeHandler, Dead: a.deadPolicy(), PhaseChanged: a.metrics.phaseChanged,
		Allocatable: func() corev1.ResourceList { return a.nodeAnyway().Status.Allocatable },
		RootDir:     a.options.RootDir, PodLogDir: a.podLogDir(),
		ContainerLogDir: a.containerLogDir(),
		HostsFile:       "/etc/hosts", ResolverFile: a.options.resolverFile(),
		DNS: hostfiles.ClusterDNS{Servers: a.options.ClusterDNS, Domain: a.options.ClusterDomain},
	}
}

func (a *agent) podLogDir() string { return filepath.Join(a.options.LogDir, "pods") }

func (a *agent) containerLogDir() string { return filepath.Join(a.options.LogDir, "containers") }

// condition is what decides whether Pods can run here.
type condition struct {
	mu             sync.Mutex
	runtimeProblem string
	networkProblem string
	routeProblem   string
	runtimeVersion string
	// runtimeHandlers is nil until the runtime has answered once.
	runtimeHandlers []corev1.NodeRuntimeHandler
	synced          bool
}

// routes says why Pods of other nodes cannot be reached; without a Pod network here, none
// can.
func (c *condition) routes() string { return cmp.Or(c.routeProblem, c.networkProblem) }

// set changes the condition and says whether it is different now.
func (c *condition) set(change func(*condition)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	shown := func() [4]string {
		return [4]string{c.runtimeProblem, c.networkProblem, c.routeProblem, c.runtimeVersion}
	}
	before := shown()
	change(c)
	return before != shown()
}

func (a *agent) facts() node.Facts {
	c := &a.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	f := node.Facts{
		Machine: a.settings.machine, IPs: a.settings.hostIPs(), MaxPods: a.options.MaxPods,
		Reserved: a.settings.reserved, Version: a.settings.version, RuntimeVersion: c.runtimeVersion, ServerPort: a.options.ServerPort,
	}
	if f.Handlers = c.runtimeHandlers; f.Handlers != nil {
		f.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: new(true)}
	}
	f.KeepsRoutes, f.RouteProblem = a.peers != nil, c.routes()
	for _, p := range []string{c.runtimeProblem, c.networkProblem} {
		if p != "" {
			f.Problems = append(f.Problems, p)
		}
	}
	a.addStorageFacts(&f)
	return f
}

// ready is what /readyz answers: nil, or what is missing.
func (a *agent) ready() error {
	c := &a.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.synced:
		return errNotSynced
	case c.runtimeProblem != "":
		return fmt.Errorf("%s", c.runtimeProblem)
	case c.networkProblem != "":
		return fmt.Errorf("%s", c.networkProblem)
	}
	return nil
}

// probeRuntime asks the runtime whether it answers, and tells the Node.
func (a *agent) probeRuntime(ctx context.Context) {
	ticker := a.clock.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		probe, cancel := context.WithTimeout(ctx, probeTimeout)
		info, err := a.runtime.Info(probe)
		cancel()
		if ctx.Err() != nil {
			return
		}
		a.runtimeAnswered(ctx, info, err)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
	}
}

func (a *agent) runtimeAnswered(ctx context.Context, info runtime.Info, err error) {
	problem := ""
	if err != nil {
		problem = fmt.Sprintf("container runtime is down: %v", err)
	}
	if err == nil {
		a.learnHandlers(ctx)
	}
	changed := a.condition.set(func(c *condition) {
		c.runtimeProblem = problem
		if err == nil {
			c.runtimeVersion = info.Name + "://" + info.Version
		}
	})
	if !changed {
		return
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "The container runtime does not answer, will keep trying")
	} else {
		klog.FromContext(ctx).Info("The container runtime answers", "runtime", info.Name, "runtimeVersion", info.Version)
		if a.pool != nil {
			a.pool.WakeAll()
		}
	}
	a.reporter.Poke()
}
