package agent

import (
	"context"
	"fmt"
	"time"

	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
	"github.com/keelson-dev/keelson/nodeagent/announce"
	"github.com/keelson-dev/keelson/nodeagent/network/heldaddr"
)

// leaseTimeout bounds one request about the Lease of an address: a renewal that takes
// longer is tried again before the holder has to give up.
const leaseTimeout = 2 * time.Second

// validatePool checks the pool of addresses that this node may announce.
func (o *ProxyOptions) validatePool(services, pods ranges.List) error {
	pool, err := addrpool.Parse(o.LoadBalancerPool)
	if err != nil {
		return fmt.Errorf("--load-balancer-pool: %w", err)
	}
	for flag, list := range map[string]ranges.List{"--service-cidr": services, "--cluster-cidr": pods} {
		if err := pool.CheckApart(flag, list); err != nil {
			return fmt.Errorf("--load-balancer-pool: %w", err)
		}
	}
	return nil
}

// announce lets this node stand for the addresses of load balancers until ctx ends.
func (a *api) announce(ctx context.Context, pool addrpool.Pool, s settings) error {
	nodes, err := cache.New(a.config, cache.Options{
		Scheme: a.scheme, Mapper: newMapper(), ReaderFailOnMissingInformer: true,
		DefaultTransform: announce.StripNode, DefaultUnsafeDisableDeepCopy: new(true),
	})
	if err != nil {
		return fmt.Errorf("building the cache of nodes: %w", err)
	}
	config := rest.CopyConfig(a.config)
	config.Timeout = leaseTimeout
	leases, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("building the client of Leases: %w", err)
	}
	return announce.New(announce.Options{
		Pool: pool, NodeName: s.name, Cache: a.cache, Nodes: nodes, Leases: leases,
		Addresses: heldaddr.Holder{NodeIPs: s.ips},
	}).Run(ctx)
}

// dropAnnounced takes away what an agent that was killed has for some seconds more.
func dropAnnounced(o *Options) error {
	pool, err := addrpool.Parse(o.LoadBalancerPool)
	if err != nil || pool == nil {
		return err
	}
	s := settings{}
	if err := s.settleNetwork(o); err != nil {
		return err
	}
	return heldaddr.Holder{NodeIPs: s.ips}.Sweep(pool.Contains)
}
