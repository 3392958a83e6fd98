package endpointslicemirroring

import (
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	endpointsliceutil "k8s.io/endpointslice/util"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
	"github.com/keelson-dev/keelson/apis/summary"
	"github.com/keelson-dev/keelson/controllers/internal/subsets"
)

// maxAddresses is how many addresses of one subset are mirrored, into one slice; it is
// upstream's default.
const maxAddresses = 1000

// groupKey tells slices apart: one for each family and set of ports.
type groupKey struct {
	addressType upstreamdiscoveryv1.AddressType
	ports       endpointsliceutil.PortMapKey
}

// group is what one slice holds.
type group struct {
	key       groupKey
	ports     []upstreamdiscoveryv1.EndpointPort
	endpoints []upstreamdiscoveryv1.Endpoint
}

// skipped counts the addresses that are not mirrored.
type skipped struct{ invalid, tooMany int }

// computeGroups sorts the addresses of all subsets into groups, in a canonical order.
func computeGroups(all []corev1.EndpointSubset) ([]group, skipped) {
	var groups []group
	var left skipped
	for _, subset := range subsets.Repack(subsets.Contributions(all)) {
		ports := portsOf(&subset)
		byType := map[upstreamdiscoveryv1.AddressType]*group{}
		for _, addressType := range []upstreamdiscoveryv1.AddressType{upstreamdiscoveryv1.AddressTypeIPv4, upstreamdiscoveryv1.AddressTypeIPv6} {
			key := groupKey{addressType: addressType, ports: endpointsliceutil.NewPortMapKey(ports)}
			byType[addressType] = &group{key: key, ports: ports}
		}
		mirrored := 0
		add := func(address *corev1.EndpointAddress, ready bool) {
			addressType, endpoint, ok := endpointOf(address, ready)
			switch {
			case !ok:
				left.invalid++
			case mirrored >= maxAddresses:
				left.tooMany++
			default:
				mirrored++
				byType[addressType].endpoints = append(byType[addressType].endpoints, endpoint)
			}
		}
		for i := range subset.Addresses {
			add(&subset.Addresses[i], true)
		}
		for i := range subset.NotReadyAddresses {
			add(&subset.NotReadyAddresses[i], false)
		}
		for _, addressType := range slices.Sorted(maps.Keys(byType)) {
			if g := byType[addressType]; len(g.endpoints) > 0 {
				groups = append(groups, *g)
			}
		}
	}
	return groups, left
}

func portsOf(subset *corev1.EndpointSubset) []upstreamdiscoveryv1.EndpointPort {
	ports := make([]upstreamdiscoveryv1.EndpointPort, 0, len(subset.Ports))
	for _, p := range subset.Ports {
		if p.Protocol == "" {
			p.Protocol = corev1.ProtocolTCP
		}
		ports = append(ports, upstreamdiscoveryv1.EndpointPort{
			Name: new(p.Name), Port: new(p.Port), Protocol: new(p.Protocol), AppProtocol: p.AppProtocol,
		})
	}
	return ports
}

func endpointOf(address *corev1.EndpointAddress, ready bool) (upstreamdiscoveryv1.AddressType, upstreamdiscoveryv1.Endpoint, bool) {
	ip, err := netip.ParseAddr(address.IP)
	if err != nil {
		return "", upstreamdiscoveryv1.Endpoint{}, false
	}
	ip = ip.Unmap()
	addressType := upstreamdiscoveryv1.AddressTypeIPv4
	if ip.Is6() {
		addressType = upstreamdiscoveryv1.AddressTypeIPv6
	}
	endpoint := upstreamdiscoveryv1.Endpoint{
		Addresses:  []string{ip.String()},
		Conditions: upstreamdiscoveryv1.EndpointConditions{Ready: new(ready)},
		NodeName:   address.NodeName,
		TargetRef:  address.TargetRef,
	}
	if address.Hostname != "" {
		endpoint.Hostname = new(address.Hostname)
	}
	return addressType, endpoint, true
}

// plan is what to write.
type plan struct {
	create []*discoveryv1.EndpointSlice
	update []update
	remove []*discoveryv1.EndpointSlice
}

// update is a slice as it is and as it should be.
type update struct{ from, to *discoveryv1.EndpointSlice }

func (p *plan) changes() bool { return len(p.create)+len(p.update)+len(p.remove) > 0 }

// makePlan gives each group the existing slice of its key, else one that is not needed
// any more, else a new one.
func makePlan(endpoints *keelsonv1.Endpoints, groups []group, existing []*discoveryv1.EndpointSlice) plan {
	var p plan
	byKey := map[groupKey]*discoveryv1.EndpointSlice{}
	for _, slice := range existing {
		key := groupKey{addressType: slice.AddressType, ports: endpointsliceutil.NewPortMapKey(slice.Ports)}
		if byKey[key] == nil {
			byKey[key] = slice
		} else {
			p.remove = append(p.remove, slice)
		}
	}
	var homeless []group
	for _, g := range groups {
		if slice := byKey[g.key]; slice != nil {
			delete(byKey, g.key)
			p.rewrite(endpoints, g, slice)
		} else {
			homeless = append(homeless, g)
		}
	}
	for _, slice := range existing {
		key := groupKey{addressType: slice.AddressType, ports: endpointsliceutil.NewPortMapKey(slice.Ports)}
		if byKey[key] == slice {
			p.remove = append(p.remove, slice)
		}
	}
	for _, g := range homeless {
		at := slices.IndexFunc(p.remove, func(s *discoveryv1.EndpointSlice) bool { return s.AddressType == g.key.addressType })
		if at < 0 {
			p.create = append(p.create, renderMirror(endpoints, g, &discoveryv1.EndpointSlice{}))
			continue
		}
		p.rewrite(endpoints, g, p.remove[at])
		p.remove = slices.Delete(p.remove, at, at+1)
	}
	return p
}

func (p *plan) rewrite(endpoints *keelsonv1.Endpoints, g group, slice *discoveryv1.EndpointSlice) {
	if wanted := renderMirror(endpoints, g, slice); !equality.Semantic.DeepEqual(slice, wanted) {
		p.update = append(p.update, update{from: slice, to: wanted})
	}
}

// renderMirror returns base (empty, when there is none) as the mirror of one group.
func renderMirror(endpoints *keelsonv1.Endpoints, g group, base *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	slice := base.DeepCopy()
	if slice.Name == "" {
		slice.GenerateName = namePrefix(endpoints.Name)
	}
	slice.Namespace = endpoints.Namespace
	slice.Labels = maps.Clone(endpoints.Labels)
	if slice.Labels == nil {
		slice.Labels = map[string]string{}
	}
	slice.Labels[upstreamdiscoveryv1.LabelServiceName] = endpoints.Name
	slice.Labels[upstreamdiscoveryv1.LabelManagedBy] = ManagedBy
	slice.Annotations = maps.Clone(endpoints.Annotations)
	delete(slice.Annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(slice.Annotations, corev1.LastAppliedConfigAnnotation)
	slice.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(endpoints, keelsonv1.GroupVersion.WithKind("Endpoints"))}
	slice.AddressType, slice.Ports, slice.Endpoints = g.key.addressType, g.ports, g.endpoints
	slice.Status.Summary = summary.EndpointSlice(slice.Ports, slice.Endpoints)
	return slice
}

// namePrefix is the start of the names of slices of a Service, with a dash if it may be one.
func namePrefix(service string) string {
	if prefix := service + "-"; len(validation.NameIsDNSSubdomain(prefix, true)) == 0 {
		return prefix
	}
	return service
}
