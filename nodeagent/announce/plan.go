package announce

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/internal/addrpool"
)

// candidatesOfAddress is how many nodes stand by for one address, its holder included.
// Each asks for the Lease every RetryPeriod, so that the load on the API server grows
// with the number of addresses and not with that of nodes.
const candidatesOfAddress = 3

// member is what counts of a Node.
type member struct{ ready, unschedulable, excluded bool }

func toMember(n *keelsonv1.Node) member {
	m := member{unschedulable: n.Spec.Unschedulable}
	_, m.excluded = n.Labels[corev1.LabelNodeExcludeBalancers]
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			m.ready = c.Status == corev1.ConditionTrue
		}
	}
	return m
}

// addressesOf returns what is to be announced for a Service: addresses of the pool that
// Keelson gave it. The status alone is not believed, or whoever may write it could take
// any address of the network.
func addressesOf(service *keelsonv1.Service, pool addrpool.Pool) []netip.Addr {
	class := service.Spec.LoadBalancerClass
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer || class != nil && *class != keelsonv1.LoadBalancerClass || service.DeletionTimestamp != nil {
		return nil
	}
	var all []netip.Addr
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil && pool.Contains(addr) {
			all = append(all, addr)
		}
	}
	return all
}

// isLocal says whether only nodes with an endpoint of the Service take its traffic.
func isLocal(service *keelsonv1.Service) bool {
	return service.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// endpointNodes returns the nodes that have a ready endpoint in the slices.
func endpointNodes(slices []discoveryv1.EndpointSlice) map[string]bool {
	nodes := map[string]bool{}
	for i := range slices {
		for _, e := range slices[i].Endpoints {
			if e.NodeName != nil && (e.Conditions.Ready == nil || *e.Conditions.Ready) {
				nodes[*e.NodeName] = true
			}
		}
	}
	return nodes
}

// candidates returns the nodes that may announce addr, the likeliest first. It is the
// same on every node that knows the same Nodes; where they differ for a moment, the
// Lease decides. local is nil for a Service that every node takes traffic for.
//
// Where no node is ready the others count: their Pods may well work.
func candidates(addr netip.Addr, members map[string]member, local map[string]bool) []string {
	var eligible, unready []string
	for name, m := range members {
		switch {
		case m.excluded || m.unschedulable || local != nil && !local[name]:
		case m.ready:
			eligible = append(eligible, name)
		default:
			unready = append(unready, name)
		}
	}
	if len(eligible) == 0 {
		eligible = unready
	}
	slices.SortFunc(eligible, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(addr, a), rank(addr, b)), cmp.Compare(a, b))
	})
	return eligible[:min(len(eligible), candidatesOfAddress)]
}

// rank spreads addresses over nodes so that few move when a node comes or goes.
func rank(addr netip.Addr, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(addr.AsSlice()) // never fails
	_, _ = h.Write([]byte(node))
	// FNV mixes the last bytes, which tell nodes apart, into the low bits only.
	mixed := h.Sum64()
	mixed ^= mixed >> 33
	mixed *= 0xff51afd7ed558ccd
	return mixed ^ mixed>>33
}
