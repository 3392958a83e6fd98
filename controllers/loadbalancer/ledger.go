package loadbalancer

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// isOurs says whether a Service gets its addresses from here. One of another class is
// somebody else's, whatever its state.
func isOurs(service *keelsonv1.Service) bool {
	class := service.Spec.LoadBalancerClass
	return service.Spec.Type == corev1.ServiceTypeLoadBalancer && (class == nil || *class == keelsonv1.LoadBalancerClass)
}

// heldBy returns the addresses that a Service has, of whatever implementation: none of
// them is free.
func heldBy(service *keelsonv1.Service) []netip.Addr {
	var held []netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil && !slices.Contains(held, addr) {
			held = append(held, addr)
		}
	}
	return held
}

// ledger says who has which address. It is computed from one list of Services and one
// of Nodes, for the sake of one Service.
type ledger struct {
	self *keelsonv1.Service
	// holders are the other Services that have an address.
	holders map[netip.Addr][]*keelsonv1.Service
	// nodes have addresses, too, and a pool may be cut from their network.
	nodes map[netip.Addr]string
}

func computeLedger(self *keelsonv1.Service, services []keelsonv1.Service, nodes []keelsonv1.Node) *ledger {
	l := &ledger{self: self, holders: map[netip.Addr][]*keelsonv1.Service{}, nodes: map[netip.Addr]string{}}
	for i := range services {
		other := &services[i]
		if other.Namespace == self.Namespace && other.Name == self.Name {
			continue
		}
		for _, addr := range heldBy(other) {
			l.holders[addr] = append(l.holders[addr], other)
		}
	}
	for i := range nodes {
		for _, a := range nodes[i].Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				l.nodes[addr] = nodes[i].Name
			}
		}
	}
	return l
}

// takenBy returns who has an address, or "".
func (l *ledger) takenBy(addr netip.Addr) string {
	if node := l.nodes[addr]; node != "" {
		return "node " + node
	}
	if holders := l.holders[addr]; len(holders) > 0 {
		return "service " + client.ObjectKeyFromObject(holders[0]).String()
	}
	return ""
}

// keeps says whether self may keep an address that it has. Of two Services with the
// same one the older keeps it; the others are losers, which have to be settled again.
func (l *ledger) keeps(addr netip.Addr) (losers []types.NamespacedName, ok bool) {
	if l.nodes[addr] != "" {
		return nil, false
	}
	for _, other := range l.holders[addr] {
		if !isOurs(other) || before(other, l.self) {
			return nil, false
		}
		losers = append(losers, client.ObjectKeyFromObject(other))
	}
	return losers, true
}

func before(a, b *keelsonv1.Service) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.UID < b.UID
}
