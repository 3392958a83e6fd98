package service

import (
	"iter"
	"net/netip"
	"slices"
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

// ledger says who else holds what one Service holds, and what is taken at all. It is
// computed from one list of Services and says the same ever after.
type ledger struct {
	services []keelsonv1.Service
	// addresses and ports are the holders of what the subject holds.
	addresses map[netip.Addr][]holder
	ports     map[nodePort][]holder
	// takenAddresses, takenPorts and takenNumbers are made for the first draw: most
	// Services have all they need.
	takenAddresses map[netip.Addr]bool
	takenPorts     map[nodePort]bool
	takenNumbers   map[int32]bool
}

// computeLedger reads services for the sake of subject.
func computeLedger(services []keelsonv1.Service, subject *keelsonv1.Service) *ledger {
	l := &ledger{services: services, addresses: map[netip.Addr][]holder{}, ports: map[nodePort][]holder{}}
	held := clusterIPsOf(&subject.Spec)
	mine := map[nodePort]bool{}
	for port := range portsOf(&subject.Spec) {
		mine[port] = true
	}
	for i := range services {
		service := &services[i]
		if len(held) > 0 {
			for _, other := range clusterIPsOf(&service.Spec) {
				if slices.Contains(held, other) {
					l.addresses[other] = append(l.addresses[other], holderOf(service))
				}
			}
		}
		if len(mine) == 0 {
			continue
		}
		for port := range portsOf(&service.Spec) {
			if mine[port] {
				l.ports[port] = append(l.ports[port], holderOf(service))
			}
		}
	}
	return l
}

func (l *ledger) addressTaken(addr netip.Addr) bool { l.collectTaken(); return l.takenAddresses[addr] }
func (l *ledger) portTaken(port nodePort) bool      { l.collectTaken(); return l.takenPorts[port] }
func (l *ledger) numberTaken(number int32) bool     { l.collectTaken(); return l.takenNumbers[number] }

func (l *ledger) collectTaken() {
	if l.takenAddresses != nil {
		return
	}
	l.takenAddresses = make(map[netip.Addr]bool, len(l.services))
	l.takenPorts, l.takenNumbers = map[nodePort]bool{}, map[int32]bool{}
	for i := range l.services {
		spec := &l.services[i].Spec
		for _, addr := range clusterIPsOf(spec) {
			l.takenAddresses[addr] = true
		}
		for port := range portsOf(spec) {
			l.takenPorts[port], l.takenNumbers[port.number] = true, true
		}
	}
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

// clusterIPsOf returns the addresses that spec holds.
func clusterIPsOf(spec *corev1.ServiceSpec) []netip.Addr {
	if spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var held []netip.Addr
	add := func(text string) {
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(held, addr.Unmap()) {
			held = append(held, addr.Unmap())
		}
	}
	add(spec.ClusterIP)
	for _, text := range spec.ClusterIPs {
		add(text)
	}
	return held
}

// portsOf yields the node ports that spec holds, the one for health checks included.
func portsOf(spec *corev1.ServiceSpec) iter.Seq[nodePort] {
	return func(yield func(nodePort) bool) {
		for i := range spec.Ports {
			p := &spec.Ports[i]
			if p.NodePort != 0 && !yield(nodePort{protocolOf(p.Protocol), p.NodePort}) {
				return
			}
		}
		if spec.HealthCheckNodePort != 0 {
			yield(nodePort{corev1.ProtocolTCP, spec.HealthCheckNodePort})
		}
	}
}

func protocolOf(protocol corev1.Protocol) corev1.Protocol {
	if protocol == "" {
		return corev1.ProtocolTCP
	}
	return protocol
}
