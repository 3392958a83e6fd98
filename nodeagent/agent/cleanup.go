package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/network/overlay"
	"github.com/keelson-dev/keelson/nodeagent/proxy"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/runtime/containerd"
	"github.com/keelson-dev/keelson/nodeagent/userns"
	"github.com/keelson-dev/keelson/nodeagent/volumes"
)

// cleanupWorkers is how many Pods are removed at a time.
const cleanupWorkers = 8

// Cleanup ends every Pod on this machine, whatever the API says of it, and removes
// all that the agent and the proxy made: containers, images, Pod network, rules,
// cgroups, logs. Neither may run. It may be repeated, and goes on after an error.
func Cleanup(ctx context.Context, o Options) error {
	mine, err := claim(ctx, &o)
	if err != nil {
		return err
	}
	var errs []error
	if o.Agent {
		errs = append(errs, cleanupAgent(ctx, &o), cleanupPolicies())
	}
	if o.Proxy {
		if err := proxy.Cleanup(ctx); err != nil {
			errs = append(errs, fmt.Errorf("removing the rules of Services: %w", err))
		}
		errs = append(errs, dropAnnounced(&o))
	}
	return errors.Join(append(errs, mine.release())...)
}

func cleanupAgent(ctx context.Context, o *Options) error {
	s := settings{}
	var err error
	if s.pods, err = ranges.Parse("--cluster-cidr", o.ClusterCIDR); err != nil {
		return err
	}
	if s.services, err = ranges.Parse("--service-cidr", o.ServiceCIDR); err != nil {
		return err
	}
	m, err := newParts(ctx, o, s)
	if err != nil {
		return err
	}
	a := &agent{options: o, settings: s, dependencies: dependencies{runtime: m.engine, network: m.network, cgroups: m.cgroups}}
	a.manager = lifecycle.New(lifecycle.Options{
		Runtime: m.engine, Cgroups: m.cgroups, Clock: clock.RealClock{},
		Network: networkAdapter{podNetwork: m.network, changed: func(runtime.PodIdentity, []netip.Addr) {}},
		RootDir: o.RootDir, PodLogDir: a.podLogDir(), ContainerLogDir: a.containerLogDir(),
		Users:   userns.NewManager(filepath.Join(o.RootDir, lifecycle.PodsFolder)),
		Volumes: volumes.New(volumes.Options{PodsDir: filepath.Join(o.RootDir, lifecycle.PodsFolder), Mounter: volumes.Kernel{}}),
	})
	nobody := func(types.UID) bool { return false }
	if err := a.removePods(ctx); err != nil {
		return errors.Join(err, m.engine.Close()) // the network stays while a Pod may use it
	}
	return errors.Join(
		m.engine.RemoveNamespace(ctx),
		m.engine.Close(),
		m.network.Remove(ctx),
		a.sweepFiles(ctx, nobody),
		m.cgroups.RemoveRoot(),
		os.RemoveAll(stateDir(o)), os.RemoveAll(pkiDir(o)),
		removeEmpty(a.manager.PodsDir()), removeEmpty(o.RunDir), removeRoot(o.RootDir),
	)
}

// removePods ends and removes what the runtime holds.
func (a *agent) removePods(ctx context.Context) error {
	pods, err := a.runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("listing what the runtime holds: %w", err)
	}
	errs := make([]error, len(pods))
	var group sync.WaitGroup
	turns := make(chan struct{}, cleanupWorkers)
	for i, pod := range pods {
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			ctx := klog.NewContext(ctx, klog.FromContext(ctx).WithValues("pod", klog.KRef(pod.Namespace, pod.Name), "podUID", pod.UID))
			if err := a.manager.RemoveOrphan(ctx, pod.PodIdentity); err != nil {
				errs[i] = fmt.Errorf("removing Pod %s/%s: %w", pod.Namespace, pod.Name, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// parts are what this machine offers.
type parts struct {
	engine  *containerd.Runtime
	network *network.Network
	cgroups *cgroups.Manager
}

func stateDir(o *Options) string { return filepath.Join(o.RunDir, "containerd") }

func newParts(ctx context.Context, o *Options, s settings) (parts, error) {
	c := network.DefaultConfig()
	c.ClusterCIDRs, c.ServiceCIDRs, c.MTU = s.pods, s.services, o.MTU
	if len(s.ips) > 0 { // who only cleans up needs no address
		c.NodeName, c.NodeIPs, c.Overlay, c.OverlayPort = s.name, s.ips, overlay.Mode(o.Overlay), o.OverlayPort
	}
	c.StateDir, c.NetNSDir = filepath.Join(o.RootDir, "network"), filepath.Join(o.RunDir, "netns")
	if err := c.Validate(); err != nil {
		return parts{}, err
	}
	groups, err := cgroups.New(cgroupMount, cgroups.Layout{Root: o.CgroupRoot})
	if err != nil {
		return parts{}, err
	}
	engine, err := containerd.New(ctx, containerd.Options{
		Address: o.ContainerdAddress, Namespace: "keelson", StateDir: stateDir(o),
		PauseBinary: o.PauseBinary, LoggerBinary: o.LoggerBinary, RegistryConfigDir: o.RegistryConfigDir,
		Log: klog.FromContext(ctx).WithName("containerd"),
	})
	if err != nil {
		return parts{}, err
	}
	return parts{engine: engine, network: network.New(c), cgroups: groups}, nil
}
