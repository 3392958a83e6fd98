package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/cluster/nodes"
	"github.com/keelson-dev/keelson/internal/ranges"
)

func folderOf(path string) string { return filepath.Dir(path) }

// followRoutes returns the task that keeps this machine's routes to Pods as the Nodes
// say. It is done when they are set for the first time, and goes on until ctx ends.
func (p plan) followRoutes(probes *probes) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		scheme := runtime.NewScheme()
		if err := keelsonv1.AddToScheme(scheme); err != nil {
			return fmt.Errorf("register kinds: %w", err)
		}
		objects, err := cache.New(probes.admin, cache.Options{Scheme: scheme})
		if err != nil {
			return fmt.Errorf("watch Nodes: %w", err)
		}
		informer, err := objects.GetInformer(ctx, &keelsonv1.Node{}, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch Nodes: %w", err)
		}
		changed := make(chan struct{}, 1)
		note := func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { note() }, UpdateFunc: func(_, _ any) { note() }, DeleteFunc: func(any) { note() },
		}); err != nil {
			return fmt.Errorf("watch Nodes: %w", err)
		}
		watching, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- objects.Start(watching) }()
		if !objects.WaitForCacheSync(ctx) {
			stop()
			return errors.Join(errors.New("watch Nodes: interrupted"), <-ended)
		}
		if err := p.applyRoutes(ctx, objects); err != nil {
			stop()
			return errors.Join(err, <-ended)
		}
		go p.keepRoutes(ctx, objects, changed, stop)
		return nil
	}
}

func (p plan) keepRoutes(ctx context.Context, objects client.Reader, changed <-chan struct{}, stop func()) {
	defer stop()
	tick := time.NewTicker(netPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		if err := p.applyRoutes(ctx, objects); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot set the routes to Pods and will try again", "after", netPeriod)
		}
	}
}

func (p plan) applyRoutes(ctx context.Context, objects client.Reader) error {
	var list keelsonv1.NodeList
	if err := objects.List(ctx, &list); err != nil {
		return fmt.Errorf("list Nodes: %w", err)
	}
	r, err := computeRoutes(p.settings, list.Items)
	if err != nil {
		return err
	}
	return p.machine.ApplyRoutes(r)
}

// computeRoutes are the ways to the Pods of Nodes that have both a range and an address
// of its family.
func computeRoutes(s Settings, list []keelsonv1.Node) (nodes.Routes, error) {
	r := nodes.Routes{Nodes: map[netip.Prefix]netip.Addr{}}
	var err error
	if r.Pods, err = ranges.Parse("range of Pods", s.ClusterCIDR); err != nil {
		return r, err
	}
	if r.Services, err = ranges.Parse("range of Services", s.ServiceCIDR); err != nil {
		return r, err
	}
	for i := range list {
		for _, text := range append([]string{list[i].Spec.PodCIDR}, list[i].Spec.PodCIDRs...) {
			pods, err := netip.ParsePrefix(text)
			if err != nil {
				continue
			}
			if address, ok := internalIP(&list[i], pods.Addr().Is4()); ok {
				r.Nodes[pods] = address
			}
		}
	}
	return r, nil
}

// internalIP is a node's address of one family, if it has one.
func internalIP(n *keelsonv1.Node, v4 bool) (netip.Addr, bool) {
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Is4() == v4 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}
