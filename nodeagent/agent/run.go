// Package agent is keelson-node: it wires the node agent and the service proxy, feeds
// them from the API, and lets both work on when the API is away.
//
// Pods, Services, Endpoints and the own Node come from one cache of watches. Nothing
// is ended or swept before the Pods of this node have been listed once: an API server
// that does not answer never costs a running Pod. After a crash everything is read
// again from the API and the runtime; what neither the API nor a worker owns is
// removed.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/apidial"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/eviction"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/proxy"
	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
	"github.com/keelson-dev/keelson/nodeagent/userns"
	"github.com/keelson-dev/keelson/version"
)

const cgroupMount = "/sys/fs/cgroup"

// Run works until ctx ends. Containers and rules stay as they are when it returns.
func Run(ctx context.Context, o Options) error {
	s, err := settle(&o)
	if err != nil {
		return err
	}
	mine, err := claim(ctx, &o)
	if err != nil {
		return err
	}
	return errors.Join(run(ctx, o, s), mine.release())
}

func run(ctx context.Context, o Options, s settings) error {
	log := klog.FromContext(ctx).WithValues("node", s.name)
	ctx = klog.NewContext(ctx, log)
	config, err := clientcmd.BuildConfigFromFlags("", o.Kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	// The API server would pack every event of a watch by itself, for little.
	config.DisableCompression = true
	apidial.Patient(config, log)
	api, err := newAPI(config, s.name)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := newGroup(cancel)
	log.Info("Starting", "version", s.version, "nodeIPs", s.ips, "agent", o.Agent, "proxy", o.Proxy)
	running.run("api", func() error { return api.cache.Start(ctx) })

	var services *proxy.Proxy
	if o.Proxy {
		if services, err = newProxy(ctx, &o, s, api, registry); err != nil {
			return err
		}
		running.run("proxy", func() error { return services.Run(ctx) })
		pool, err := addrpool.Parse(o.LoadBalancerPool)
		if err != nil {
			return fmt.Errorf("--load-balancer-pool: %w", err)
		}
		if pool != nil {
			running.run("announce", func() error { return api.announce(ctx, pool, s) })
		}
	}
	health := &health{}
	if o.Agent {
		a, err := newMachineAgent(ctx, &o, s, api, services, registry)
		if err != nil {
			return err
		}
		health.ready = a.ready
		if o.RotateCertificates {
			if a.rotation, err = newRotation(ctx, &o, s, api); err != nil {
				return err
			}
			running.run("certificates", func() error { return a.rotation.Run(ctx) })
		}
		running.run("agent", func() error { return a.run(ctx) })
		if o.ServerPort != 0 {
			running.run("server", func() error { return a.serveAPI(ctx, registry) })
		}
	} else {
		running.run("node", func() error { return followPodCIDR(ctx, api, s, services) })
	}
	if o.HealthAddress != "" {
		running.run("health", func() error { return health.serve(ctx, o.HealthAddress, registry) })
	}
	return running.wait()
}

// settings are the options with all defaults found.
type settings struct {
	name, version string
	// ips are the node's addresses, the primary one first; ip is the IPv4 one.
	ips     []netip.Addr
	ip      netip.Addr
	machine node.Machine
	// pods and services are the cluster's ranges.
	pods, services ranges.List
	// thresholds say when the node is short of something.
	thresholds []eviction.Threshold
	// reserved is what Pods do not get; pageSizes are the large pages that can be limited.
	reserved  corev1.ResourceList
	pageSizes []int64
}

func settle(o *Options) (settings, error) {
	name, err := o.nodeName()
	if err != nil {
		return settings{}, err
	}
	s := settings{name: name, version: version.Get().Version}
	if s.thresholds, err = o.thresholds(); err != nil {
		return settings{}, err
	}
	if s.machine, err = node.ReadMachine(); err != nil {
		return settings{}, err
	}
	if s.machine.HugePages, err = cgroups.HugePages(hugePagesFolder); err != nil {
		return settings{}, err
	}
	if s.reserved, err = o.reserved(); err != nil {
		return settings{}, err
	}
	if err := node.CheckReserved(node.Facts{Machine: s.machine, MaxPods: o.MaxPods, Reserved: s.reserved}); err != nil {
		return settings{}, err
	}
	if err := s.settleNetwork(o); err != nil {
		return settings{}, err
	}
	return s, nil
}

func (s *settings) settleNetwork(o *Options) (err error) {
	if o.NodeIP != "" {
		s.ips, err = parseNodeIPs(o.NodeIP)
	} else {
		var ip netip.Addr
		if ip, err = node.DefaultRouteIP(); err != nil {
			err = fmt.Errorf("finding the node's address: %w; give one with --node-ip", err)
		}
		s.ips = []netip.Addr{ip}
	}
	if err != nil {
		return err
	}
	s.ip = s.ips[slices.IndexFunc(s.ips, netip.Addr.Is4)]
	if s.pods, err = ranges.Parse("--cluster-cidr", o.ClusterCIDR); err != nil {
		return err
	}
	s.services, err = ranges.Parse("--service-cidr", o.ServiceCIDR)
	return err
}

// hostIPs are the node's addresses, the primary one first.
func (s settings) hostIPs() []string {
	texts := make([]string, 0, len(s.ips))
	for _, ip := range s.ips {
		texts = append(texts, ip.String())
	}
	return texts
}

// proxyFacts are what the proxy knows of a node whose Pods have these ranges.
func (s settings) proxyFacts(pods ranges.List) model.NodeFacts {
	return model.NodeFacts{
		ClusterCIDR: s.pods.V4(), ServiceCIDR: s.services.V4(), PodCIDR: pods.V4(),
		ClusterCIDR6: s.pods.V6(), ServiceCIDR6: s.services.V6(), PodCIDR6: pods.V6(),
		NodeIPs: s.ips,
	}
}

// newMachineAgent builds the agent on this machine's containerd, network and cgroups.
func newMachineAgent(ctx context.Context, o *Options, s settings, api *api, services *proxy.Proxy, registry prometheus.Registerer) (*agent, error) {
	appArmor, err := appArmorEnabled(appArmorSwitch)
	if err != nil {
		return nil, err
	}
	m, err := newParts(ctx, o, s)
	if err != nil {
		return nil, err
	}
	s.pageSizes = m.cgroups.HugePageSizes(s.machine.HugePages)
	facts := node.Facts{Machine: s.machine, MaxPods: o.MaxPods, Reserved: s.reserved}
	if err := m.cgroups.Start(o.rootSettings(facts, s.pageSizes)); err != nil {
		return nil, errors.Join(err, m.engine.Close())
	}
	pulls, err := o.newImages(m.engine, clock.RealClock{})
	if err != nil {
		return nil, errors.Join(err, m.engine.Close())
	}
	users := userns.NewManager(filepath.Join(o.RootDir, lifecycle.PodsFolder))
	d := dependencies{
		users: users, mapsUsers: users.Support.Check,
		api: api, appArmor: appArmor, runtime: m.engine, streamer: m.engine, runtimeName: "containerd", network: m.network, cgroups: m.cgroups,
		images: pulls, forgetImages: pulls.Prune, clock: clock.RealClock{},
		imageVolumes: m.engine,
		storage:      m.engine, registry: registry, policies: newPolicies(s.name, api),
	}
	if services != nil {
		d.proxy = services
	}
	return newAgent(o, s, d), nil
}

// group runs the parts of the program; the first that fails ends the others.
type group struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

func newGroup(cancel context.CancelFunc) *group { return &group{cancel: cancel} }

func (g *group) run(name string, part func() error) {
	g.wg.Go(func() {
		defer g.cancel()
		if err := part(); err != nil && !errors.Is(err, context.Canceled) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	return errors.Join(g.errs...)
}

// eventSource is who events say they come from: clients and tests of upstream select the
// node's events by this name.
func eventSource(nodeName string) corev1.EventSource {
	return corev1.EventSource{Component: "kubelet", Host: nodeName}
}
