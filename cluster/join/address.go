package join

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/cluster/internal/addresses"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

const (
	// settlePeriod is how long the machine's addresses have to be the same before one of
	// them becomes the node's: DHCP clients take addresses away and bring them back, and
	// what is left in between may lead to the cluster, too.
	settlePeriod = 5 * time.Second
	// againPeriod is when they are followed anew after that has failed.
	againPeriod = 5 * time.Second
)

// machineAddresses is what the follower of the node's address needs of a machine.
type machineAddresses struct {
	// list are those of the machine; follow calls its argument when they change; toServer
	// is the one from which the machine reaches the cluster.
	list     func() ([]netip.Addr, error)
	follow   func(context.Context, func()) error
	toServer func(context.Context) (netip.Addr, error)
	clock    clock.Clock
}

func realAddresses(server string) machineAddresses {
	return machineAddresses{
		list: addresses.List, follow: addresses.Follow, clock: clock.RealClock{},
		toServer: func(ctx context.Context) (netip.Addr, error) { return nodeIP(ctx, "", server) },
	}
}

// planAddress decides which address the node has from now on: the one that it has, as long
// as the machine has it or its owner has named it, else the one by which the machine reaches
// the cluster. An address that a load balancer has for a while is nobody's.
func planAddress(s settings, own []netip.Addr, toServer netip.Addr) netip.Addr {
	pool, err := addrpool.Parse(s.Cluster.LoadBalancerPool)
	if s.NodeIPGiven || slices.Contains(own, s.NodeIP) || !toServer.IsValid() || toServer.IsLoopback() || err != nil || pool.Contains(toServer) {
		return s.NodeIP
	}
	return toServer
}

// followAddress gives the node another address when the machine has lost the one it had,
// until ctx ends. The agent starts again with it, writes it to its Node, and asks for a
// certificate of its server.
func (f *follower) followAddress(ctx context.Context, m machineAddresses) {
	log := klog.FromContext(ctx)
	changed := make(chan struct{}, 1)
	var following sync.WaitGroup
	defer following.Wait()
	following.Go(func() {
		for ctx.Err() == nil {
			err := m.follow(ctx, func() {
				select {
				case changed <- struct{}{}:
				default:
				}
			})
			if err != nil {
				log.Error(err, "Cannot tell whether the node's address changes; trying again")
			}
			select {
			case <-ctx.Done():
			case <-m.clock.After(againPeriod):
			}
		}
	})
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
			settled = m.clock.After(settlePeriod)
		case <-settled:
			settled = nil
			f.takeAddress(ctx, m)
		}
	}
}

// takeAddress looks at the machine's addresses.
func (f *follower) takeAddress(ctx context.Context, m machineAddresses) {
	log := klog.FromContext(ctx)
	own, err := m.list()
	if err != nil {
		log.Error(err, "The node keeps its address")
		return
	}
	s := f.now()
	if slices.Contains(own, s.NodeIP) {
		return
	}
	toServer, err := m.toServer(ctx)
	if err != nil {
		log.Info("The machine has lost the node's address and cannot reach the cluster", "address", s.NodeIP, "reason", err.Error())
		return
	}
	now := planAddress(s, own, toServer)
	if now == s.NodeIP {
		log.Info("The machine has lost the node's address; the node keeps it: it was given by --node-ip, or the machine reaches the cluster from none that could be a node's", "address", s.NodeIP, "reachesFrom", toServer)
		return
	}
	if networks, err := machineNetworks(); err == nil {
		if err := checkNetworks(s.Cluster, networks); err != nil {
			log.Error(err, "The machine has moved to a network that the cluster cannot be in")
		}
	}
	f.change(ctx, "The node's address has changed; the agent starts again with it", func(s *settings) bool {
		was := s.NodeIP
		s.NodeIP = now
		return was != now
	}, "address", now, "was", s.NodeIP)
}
