package service

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// nodePort is a node port as a socket sees it: TCP and UDP do not disturb each other.
type nodePort struct {
	protocol corev1.Protocol
	number   int32
}

// holder is a Service that has a claim.
type holder struct {
	key     types.NamespacedName
	created time.Time
	uid     types.UID
}

// before says which of two holders of one thing keeps it: default/kubernetes, then
// the older one.
func (h holder) before(other holder) bool {
	if first := h.key == kubernetesKey; first != (other.key == kubernetesKey) {
		return first
	}
	if !h.created.Equal(other.created) {
		return h.created.Before(other.created)
	}
	return h.uid < other.uid
}

func holderOf(service *keelsonv1.Service) holder {
	return holder{key: client.ObjectKeyFromObject(service), created: service.CreationTimestamp.Time, uid: service.UID}
}

// ledger says which Services hold which addresses and ports. It is computed from one
// list of Services and never updated.
type ledger struct {
	addresses map[netip.Addr][]holder
	ports     map[nodePort][]holder
	// numbers are the port numbers in use with whatever protocol.
	numbers map[int32]bool
}

func computeLedger(services []keelsonv1.Service) ledger {
	l := ledger{
		addresses: map[netip.Addr][]holder{},
		ports:     map[nodePort][]holder{},
		numbers:   map[int32]bool{},
	}
	for i := range services {
		service := &services[i]
		h := holderOf(service)
		if addr, ok := clusterIPOf(&service.Spec); ok {
			l.addresses[addr] = append(l.addresses[addr], h)
		}
		for port := range portsOf(&service.Spec) {
			l.ports[port] = append(l.ports[port], h)
			l.numbers[port.number] = true
		}
	}
	return l
}

// rivals returns those among holders that are not self, split by who has to give way.
func rivals(holders []holder, self holder) (winner *holder, losers []types.NamespacedName) {
	for i := range holders {
		switch h := &holders[i]; {
		case h.key == self.key:
		case h.before(self):
			winner = h
		default:
			losers = append(losers, h.key)
		}
	}
	return winner, losers
}

// clusterIPOf returns the address that spec holds.
func clusterIPOf(spec *corev1.ServiceSpec) (netip.Addr, bool) {
	if spec.Type == corev1.ServiceTypeExternalName {
		return netip.Addr{}, false
	}
	addr, err := netip.ParseAddr(spec.ClusterIP)
	return addr.Unmap(), err == nil
}

// portsOf returns the node ports that spec holds, the one for health checks included.
func portsOf(spec *corev1.ServiceSpec) map[nodePort]bool {
	ports := map[nodePort]bool{}
	for i := range spec.Ports {
		if p := &spec.Ports[i]; p.NodePort != 0 {
			ports[nodePort{protocolOf(p.Protocol), p.NodePort}] = true
		}
	}
	if spec.HealthCheckNodePort != 0 {
		ports[nodePort{corev1.ProtocolTCP, spec.HealthCheckNodePort}] = true
	}
	return ports
}

func protocolOf(protocol corev1.Protocol) corev1.Protocol {
	if protocol == "" {
		return corev1.ProtocolTCP
	}
	return protocol
}
