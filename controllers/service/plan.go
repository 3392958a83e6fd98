package service

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// ranges are what Services draw from, and the chance that picks.
type ranges struct {
	addresses svcranges.AddressRange
	ports     svcranges.PortRange
	// intN returns a number in [0, n).
	intN func(n int) int
}

// plan is what a Service gets.
type plan struct {
	// spec is the whole spec as it should be.
	spec corev1.ServiceSpec
	// notes are for the Service's user.
	notes []note
	// losers are Services that hold something which this one is entitled to: they
	// must be planned again.
	losers []types.NamespacedName
	// shortage says what could not be given; nil when everything was.
	shortage error
}

func (p *plan) note(reason, action, format string, args ...any) {
	p.notes = append(p.notes, note{reason: reason, action: action, text: fmt.Sprintf(format, args...)})
}

// makePlan gives service the cluster address and the node ports that its type needs,
// and takes back those that it does not need. What it has stays, unless an older
// Service has it too.
func makePlan(service *keelsonv1.Service, l *ledger, r ranges) plan {
	p := plan{spec: *service.Spec.DeepCopy()}
	self := holderOf(service)
	p.planAddress(self, l, r)
	p.planPorts(self, l, r)
	return p
}

func (p *plan) planAddress(self holder, l *ledger, r ranges) {
	spec := &p.spec
	if spec.Type == corev1.ServiceTypeExternalName {
		spec.ClusterIP, spec.ClusterIPs = "", nil
		return
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	}
	if spec.ClusterIP != corev1.ClusterIPNone && !p.keepsAddress(self, l, r) {
		addr, ok := pickAddress(l, r)
		if !ok {
			spec.ClusterIP, spec.ClusterIPs = "", nil
			p.note(ReasonServiceCIDRFull, actionAddress,
				"Service CIDR %s is full; delete Services or widen --service-cidr", r.addresses)
			p.shortage = errors.Join(p.shortage, fmt.Errorf("no cluster address is free in %s", r.addresses))
			return
		}
		spec.ClusterIP = addr.String()
	}
	if len(spec.ClusterIPs) == 0 || spec.ClusterIPs[0] != spec.ClusterIP {
		spec.ClusterIPs = []string{spec.ClusterIP}
	}
}

// keepsAddress says whether the Service has an address that it may keep. One that is
// outside the range stays too, with a warning: clients may know it.
func (p *plan) keepsAddress(self holder, l *ledger, r ranges) bool {
	if p.spec.ClusterIP == "" {
		return false
	}
	addr, ok := clusterIPOf(&p.spec)
	if !ok {
		p.note(ReasonClusterIPNotValid, actionAddress, "Cluster IP %s is not a valid IP; please recreate service", p.spec.ClusterIP)
		return true
	}
	if !r.addresses.Contains(addr) {
		p.note(ReasonClusterIPOutOfRange, actionAddress, "Cluster IP %s is not within the service CIDR %s; please recreate service", addr, r.addresses)
	}
	winner, losers := rivals(l.addresses[addr], self)
	if winner != nil {
		p.note(ReasonClusterIPAlreadyAllocated, actionAddress,
			"Cluster IP %s was assigned to multiple services; %s keeps it, this one gets another", addr, winner.key)
		return false
	}
	p.losers = append(p.losers, losers...)
	return true
}

func (p *plan) planPorts(self holder, l *ledger, r ranges) {
	spec := &p.spec
	if !needsNodePorts(spec) {
		for i := range spec.Ports {
			spec.Ports[i].NodePort = 0
		}
		spec.HealthCheckNodePort = 0
		return
	}
	given := portGrants{self: self, ledger: l, ranges: r, mine: map[nodePort]bool{}, byPort: map[int32]int32{}}
	// First what is there, so that nothing new takes it.
	for i := range spec.Ports {
		port := &spec.Ports[i]
		if port.NodePort != 0 && !given.keeps(p, protocolOf(port.Protocol), port.NodePort) {
			port.NodePort = 0
		}
		if port.NodePort != 0 {
			given.byPort[port.Port] = port.NodePort
		}
	}
	wantsHealth := spec.Type == corev1.ServiceTypeLoadBalancer && spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	if !wantsHealth || (spec.HealthCheckNodePort != 0 && !given.keeps(p, corev1.ProtocolTCP, spec.HealthCheckNodePort)) {
		spec.HealthCheckNodePort = 0
	}
	for i := range spec.Ports {
		if port := &spec.Ports[i]; port.NodePort == 0 && wantsNumbers(spec) {
			port.NodePort = given.pickFor(p, port)
		}
	}
	if wantsHealth && spec.HealthCheckNodePort == 0 {
		spec.HealthCheckNodePort = given.pick(p)
	}
	p.losers = slices.Compact(p.losers)
}

func needsNodePorts(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort || spec.Type == corev1.ServiceTypeLoadBalancer
}

// wantsNumbers is false for a load balancer that reaches Pods without node ports.
func wantsNumbers(spec *corev1.ServiceSpec) bool {
	return spec.Type == corev1.ServiceTypeNodePort ||
		spec.AllocateLoadBalancerNodePorts == nil || *spec.AllocateLoadBalancerNodePorts
}

// portGrants is what one Service has been given so far.
type portGrants struct {
	self   holder
	ledger *ledger
	ranges ranges
	mine   map[nodePort]bool
	// byPort is the node port of a Service port: the same port over TCP and UDP gets
	// the same number, as upstream gives it.
	byPort map[int32]int32
}

func (g *portGrants) keeps(p *plan, protocol corev1.Protocol, number int32) bool {
	port := nodePort{protocol, number}
	if g.mine[port] {
		p.note(ReasonPortAlreadyAllocated, actionPort, "Node port %d/%s is named twice; one gets another", number, protocol)
		return false
	}
	if !g.ranges.ports.Contains(number) {
		p.note(ReasonPortOutOfRange, actionPort, "Port %d is not within the port range %s; please recreate service", number, g.ranges.ports)
	}
	winner, losers := rivals(g.ledger.ports[port], g.self)
	if winner != nil {
		p.note(ReasonPortAlreadyAllocated, actionPort,
			"Port %d was assigned to multiple services; %s keeps it, this one gets another", number, winner.key)
		return false
	}
	p.losers = append(p.losers, losers...)
	g.mine[port] = true
	return true
}

func (g *portGrants) pickFor(p *plan, port *corev1.ServicePort) int32 {
	twin := nodePort{protocolOf(port.Protocol), g.byPort[port.Port]}
	if twin.number != 0 && !g.mine[twin] && !g.ledger.portTaken(twin) {
		g.mine[twin] = true
		return twin.number
	}
	number := g.pick(p)
	if number != 0 {
		g.byPort[port.Port] = number
		g.mine[nodePort{protocolOf(port.Protocol), number}] = true
	}
	return number
}

// pick returns a number that nobody uses with any protocol, or 0 and a shortage.
func (g *portGrants) pick(p *plan) int32 {
	number, ok := pickPort(g)
	if !ok {
		p.note(ReasonPortRangeFull, actionPort, "Port range %s is full; delete Services or widen --node-port-range", g.ranges.ports)
		p.shortage = errors.Join(p.shortage, fmt.Errorf("no node port is free in %s", g.ranges.ports))
		return 0
	}
	g.mine[nodePort{corev1.ProtocolTCP, number}] = true
	return number
}

// pickAddress draws a free address: above the static band first, and never the two
// that have an owner by definition.
func pickAddress(l *ledger, r ranges) (netip.Addr, bool) {
	offset, ok := draw(r.addresses.Size(), r.addresses.StaticBand(), r.intN, func(offset int) bool {
		addr := r.addresses.At(offset + 1)
		return addr != r.addresses.KubernetesAddress() && addr != r.addresses.DNSAddress() && !l.addressTaken(addr)
	})
	return r.addresses.At(offset + 1), ok
}

func pickPort(g *portGrants) (int32, bool) {
	r := g.ranges.ports
	offset, ok := draw(r.Size(), r.StaticBand(), g.ranges.intN, func(offset int) bool {
		number := r.First + int32(offset)
		return !g.ledger.numberTaken(number) &&
			!g.mine[nodePort{corev1.ProtocolTCP, number}] && !g.mine[nodePort{corev1.ProtocolUDP, number}] && !g.mine[nodePort{corev1.ProtocolSCTP, number}]
	})
	return r.First + int32(offset), ok
}

// draw returns a free offset below size, drawn at random at or above band; below it
// only when nothing else is free.
func draw(size, band int, intN func(int) int, free func(offset int) bool) (int, bool) {
	for _, span := range [2][2]int{{band, size - band}, {0, band}} {
		first, count := span[0], span[1]
		if count <= 0 {
			continue
		}
		start := intN(count)
		for i := range count {
			if offset := first + (start+i)%count; free(offset) {
				return offset, true
			}
		}
	}
	return 0, false
}
