package manager

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/keelson-dev/keelson/internal/addrpool"
	"github.com/keelson-dev/keelson/internal/ranges"
)

// reservedAddresses tells the addresses that clients of the cluster take for something
// other than a node: those of Services, Pods, load balancers, and of the API server.
func (o Options) reservedAddresses() (func(netip.Addr) bool, error) {
	services, err := ranges.ParseList(o.ServiceCIDR)
	if err != nil {
		return nil, fmt.Errorf("--service-cidr: %w", err)
	}
	pods, err := ranges.ParseList(o.ClusterCIDR)
	if err != nil {
		return nil, fmt.Errorf("--cluster-cidr: %w", err)
	}
	pool, err := addrpool.Parse(o.LoadBalancerPool)
	if err != nil {
		return nil, fmt.Errorf("--load-balancer-pool: %w", err)
	}
	var servers []netip.Addr
	for _, endpoint := range o.KubernetesServiceEndpoints {
		at, err := netip.ParseAddrPort(endpoint)
		if err != nil {
			return nil, fmt.Errorf("--kubernetes-service-endpoints: %w", err)
		}
		servers = append(servers, at.Addr().Unmap())
	}
	return func(addr netip.Addr) bool {
		return services.Contains(addr) || pods.Contains(addr) || pool.Contains(addr) || slices.Contains(servers, addr)
	}, nil
}
