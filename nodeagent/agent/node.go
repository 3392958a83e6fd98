package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/node"
)

const (
	networkRetryFirst = time.Second
	networkRetryMax   = 30 * time.Second
)

// followNode keeps the reporter and the network told of the own Node.
func (a *agent) followNode(ctx context.Context) error {
	return watchNode(ctx, a.api, func(n *keelsonv1.Node) {
		a.reporter.Observe(n)
		poke(a.configure)
		a.nodeSeen(n)
	})
}

// watchNode calls changed with the own Node at each change, with nil when it is gone.
func watchNode(ctx context.Context, api *api, changed func(*keelsonv1.Node)) error {
	informer, err := api.cache.GetInformer(ctx, &keelsonv1.Node{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watching the Node: %w", err)
	}
	observe := func(object any) {
		if n, ok := object.(*keelsonv1.Node); ok {
			changed(n)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, object any) { observe(object) },
		DeleteFunc: func(any) { changed(nil) },
	})
	if err != nil {
		return fmt.Errorf("watching the Node: %w", err)
	}
	return nil
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // one is waiting already
	}
}

// nodeAnyway returns the own Node as it is or, before it is registered, as it will be.
func (a *agent) nodeAnyway() *keelsonv1.Node {
	facts := a.facts()
	n := a.reporter.Node().DeepCopy()
	if n == nil {
		n = &keelsonv1.Node{}
		n.Name, n.Labels = a.settings.name, node.Labels(a.settings.name, facts.Machine)
	}
	allocatable := node.Allocatable(facts)
	for name, quantity := range n.Status.Allocatable {
		if node.IsExtended(name) {
			allocatable[name] = quantity
		}
	}
	n.Status.Allocatable = allocatable
	return n
}

// keepNetwork configures the Pod network when the Node has a Pod range, when that
// changes or failed, and now and then, because others (systemd-networkd when it
// restarts) take routes away that are not theirs.
func (a *agent) keepNetwork(ctx context.Context) {
	var tried string
	failures := 0
	timer := a.clock.NewTimer(relistInterval)
	defer timer.Stop()
	var nodesChanged chan struct{}
	if a.peers != nil {
		nodesChanged = a.peers.changed
	}
	for due := false; ; {
		if wanted := podCIDRs(a.reporter.Node()); wanted != "" && (due || wanted != tried) {
			pause := relistInterval
			if err := a.configureNetwork(ctx, wanted); err != nil {
				klog.FromContext(ctx).Error(err, "Cannot set up the Pod network, will retry", "podCIDR", wanted)
				pause = min(networkRetryFirst<<min(failures, 10), networkRetryMax)
				failures++
			} else {
				failures = 0
			}
			tried = wanted
			timer.Reset(pause)
		}
		due = false
		select {
		case <-ctx.Done():
			return
		case <-a.configure:
		case <-nodesChanged:
			if failures > 0 || tried == "" {
				break // the next attempt has them
			}
			if err := a.setPeers(ctx, false); err != nil {
				klog.FromContext(ctx).Error(err, "Cannot set the ways to other nodes, will retry")
				tried = "" // at once, with all that belongs to it
			}
		case <-timer.C():
			due = true
			timer.Reset(relistInterval)
		}
	}
}

// podCIDRs are the ranges of a Node, the primary one first, separated by commas.
func podCIDRs(n *keelsonv1.Node) string {
	switch {
	case n == nil:
		return ""
	case len(n.Spec.PodCIDRs) > 0:
		return strings.Join(n.Spec.PodCIDRs, ",")
	}
	return n.Spec.PodCIDR
}

func (a *agent) configureNetwork(ctx context.Context, text string) error {
	err := a.applyNetwork(ctx, text)
	problem, route := "", ""
	if failed := (routeError{}); errors.As(err, &failed) {
		route = err.Error() // Pods can run here
	} else if err != nil {
		problem = fmt.Sprintf("container runtime network not ready: %v", err)
	}
	changed := a.condition.set(func(c *condition) { c.networkProblem, c.routeProblem = problem, route })
	if changed {
		a.reporter.Poke()
	}
	if problem != "" || !changed {
		return err
	}
	klog.FromContext(ctx).Info("The Pod network is ready", "podCIDR", text)
	if a.pool != nil {
		a.pool.WakeAll()
	}
	poke(a.sweepNow)
	return err
}

func (a *agent) applyNetwork(ctx context.Context, text string) error {
	own, err := ranges.Parse("spec.podCIDRs of the Node", text)
	if err != nil {
		return err
	}
	if err := a.network.Configure(ctx, own); err != nil {
		return err
	}
	if a.proxy != nil {
		if err := a.proxy.SetNodeFacts(a.settings.proxyFacts(own)); err != nil {
			return err
		}
	}
	return a.setPeers(ctx, true)
}

// followPodCIDR tells a proxy that runs alone which range the Node's Pods have.
func followPodCIDR(ctx context.Context, api *api, s settings, p serviceProxy) error {
	err := watchNode(ctx, api, func(n *keelsonv1.Node) {
		own, err := ranges.Parse("spec.podCIDRs", podCIDRs(n))
		if err == nil {
			err = p.SetNodeFacts(s.proxyFacts(own))
		}
		if err != nil {
			klog.FromContext(ctx).V(2).Info("The Node has no usable Pod range yet", "err", err)
		}
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
