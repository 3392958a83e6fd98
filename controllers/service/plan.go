package service

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/svcranges"
)

// ranges are what Services draw from, and the chance that picks.
type ranges struct {
	addresses svcranges.AddressRanges
	ports     svcranges.PortRange
	// intN returns a number in [0, n).
	intN func(n int) int
}

// String returns the ranges of addresses as --service-cidr has them.
func (r ranges) String() string {
	all := make([]string, 0, len(r.addresses))
	for _, a := range r.addresses {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func (r ranges) defaultFamily() corev1.IPFamily {
	if r.addresses[0].Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
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
	p.planAddresses(self, l, r)
	p.planPorts(self, l, r)
	return p
}

// planAddresses gives the Service one address of each of its families; which families
// those are, admission has settled.
func (p *plan) planAddresses(self holder, l *ledger, r ranges) {
	spec := &p.spec
	if spec.Type == corev1.ServiceTypeExternalName {
		spec.ClusterIP, spec.ClusterIPs = "", nil
		return
	}
	if len(spec.IPFamilies) == 0 {
		spec.IPFamilies = []corev1.IPFamily{r.defaultFamily()}
	}
	if spec.IPFamilyPolicy == nil {
		spec.IPFamilyPolicy = new(corev1.IPFamilyPolicySingleStack)
	}
	if spec.ClusterIP == corev1.ClusterIPNone {
		spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return
	}
	had := spec.ClusterIPs
	if len(had) == 0 || had[0] != spec.ClusterIP {
		had = []string{spec.ClusterIP}
	}
	spec.ClusterIPs = nil
	for i, family := range spec.IPFamilies {
		address := ""
		if i < len(had) {
			address = had[i]
		}
		if !p.keepsAddress(address, self, l, r) {
			address = p.drawAddress(family, l, r)
		}
		if address == "" {
			break // the list has no gaps: the second one waits for the first
		}
		spec.ClusterIPs = append(spec.ClusterIPs, address)
	}
	spec.ClusterIP = ""
	if len(spec.ClusterIPs) > 0 {
		spec.ClusterIP = spec.ClusterIPs[0]
	}
}

// drawAddress returns a free address of family; where there is none, it says so and
// returns "".
func (p *plan) drawAddress(family corev1.IPFamily, l *ledger, r ranges) string {
	addresses := r.addresses.Family(family == corev1.IPv4Protocol)
	if !addresses.IsValid() {
		p.note(ReasonFamilyNotConfigured, actionAddress, "%s is not configured on this cluster: --service-cidr has no range of it", family)
		p.shortage = errors.Join(p.shortage, fmt.Errorf("--service-cidr has no range of %s", family))
		return ""
	}
	addr, ok := pickAddress(l, addresses, r.intN)
	if !ok {
		p.note(ReasonServiceCIDRFull, actionAddress, "Service CIDR %s is full; delete Services or widen --service-cidr", addresses)
		p.shortage = errors.Join(p.shortage, fmt.Errorf("no cluster address is free in %s", addresses))
		return ""
	}
	return addr.String()
}

// keepsAddress says whether the Service may keep an address that it has. One that is
// outside the range stays too, with a warning: clients may know it.
func (p *plan) keepsAddress(address string, self holder, l *ledger, r ranges) bool {
	if address == "" {
		return false
	}
	addr, err := netip.ParseAddr(address)
	if err != nil {
		p.note(ReasonClusterIPNotValid, actionAddress, "Cluster IP %s is not a valid IP; please recreate service", address)
		return true
	}
	addr = addr.Unmap()
	if !r.addresses.Contains(addr) {
		p.note(ReasonClusterIPOutOfRange, actionAddress, "Cluster IP %s is not within the service CIDR %s; please recreate service", addr, r)
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
		spec.HealthCheckNodePort = given.pick(p, corev1.ProtocolTCP)
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
	number := g.pick(p, protocolOf(port.Protocol))
	if number != 0 {
		g.byPort[port.Port] = number
	}
	return number
}

// pick takes a number that nobody uses with any protocol, or returns 0 and a shortage.
// Only protocol is taken: another port of the Service may share the number.
func (g *portGrants) pick(p *plan, protocol corev1.Protocol) int32 {
	number, ok := pickPort(g)
	if !ok {
		p.note(ReasonPortRangeFull, actionPort, "Port range %s is full; delete Services or widen --node-port-range", g.ranges.ports)
		p.shortage = errors.Join(p.shortage, fmt.Errorf("no node port is free in %s", g.ranges.ports))
		return 0
	}
	g.mine[nodePort{protocol, number}] = true
	return number
}

// pickAddress draws a free address: above the static band first, and never the two
// that have an owner by definition.
func pickAddress(l *ledger, r svcranges.AddressRange, intN func(int) int) (netip.Addr, bool) {
	offset, ok := draw(r.Size(), r.StaticBand(), intN, func(offset int) bool {
		addr := r.At(offset + 1)
		return addr != r.KubernetesAddress() && addr != r.DNSAddress() && !l.addressTaken(addr)
	})
	return r.At(offset + 1), ok
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
