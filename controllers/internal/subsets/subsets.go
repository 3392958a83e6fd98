// Package subsets brings the subsets of Endpoints into their canonical form, for the
// controllers that write Endpoints and that read those of others. Every function is pure;
// there is nothing to recover after a crash.
package subsets

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Contribution is one address that serves one port. The zero port stands for none, as a
// headless Service may have it.
type Contribution struct {
	Address corev1.EndpointAddress
	Ready   bool
	Port    corev1.EndpointPort
}

// Contributions takes subsets apart.
func Contributions(subsets []corev1.EndpointSubset) []Contribution {
	var found []Contribution
	for i := range subsets {
		ports := subsets[i].Ports
		if len(ports) == 0 {
			ports = []corev1.EndpointPort{{}}
		}
		for _, port := range ports {
			for _, address := range subsets[i].Addresses {
				found = append(found, Contribution{Address: address, Ready: true, Port: port})
			}
			for _, address := range subsets[i].NotReadyAddresses {
				found = append(found, Contribution{Address: address, Port: port})
			}
		}
	}
	return found
}

// addressKey tells addresses apart: Pods on the host network share an IP.
type addressKey struct {
	ip  string
	uid types.UID
}

// portKey is an EndpointPort that compares by value.
type portKey struct {
	name        string
	port        int32
	protocol    corev1.Protocol
	appProtocol string
	hasApp      bool
}

// Repack brings contributions into the canonical form: ports that are served by the
// same addresses in the same state share one subset, and everything is sorted. Two
// sets of contributions that mean the same give equal results.
func Repack(found []Contribution) []corev1.EndpointSubset {
	addresses := map[addressKey]corev1.EndpointAddress{}
	states := map[portKey]map[addressKey]bool{}
	for _, c := range found {
		address, port := addressKeyOf(&c.Address), portKeyOf(&c.Port)
		if _, seen := addresses[address]; !seen {
			addresses[address] = c.Address
		}
		if states[port] == nil {
			states[port] = map[addressKey]bool{}
		}
		// Not ready wins where one address is said to be both.
		ready, seen := states[port][address]
		states[port][address] = c.Ready && (ready || !seen)
	}

	portsOfGroup := map[string][]portKey{}
	for port, state := range states {
		group := groupName(state)
		portsOfGroup[group] = append(portsOfGroup[group], port)
	}
	subsets := make([]corev1.EndpointSubset, 0, len(portsOfGroup))
	for _, ports := range portsOfGroup {
		subsets = append(subsets, renderSubset(ports, states[ports[0]], addresses))
	}
	slices.SortFunc(subsets, compareSubsets)
	return subsets
}

func addressKeyOf(address *corev1.EndpointAddress) addressKey {
	key := addressKey{ip: address.IP}
	if address.TargetRef != nil {
		key.uid = address.TargetRef.UID
	}
	return key
}

func portKeyOf(port *corev1.EndpointPort) portKey {
	key := portKey{name: port.Name, port: port.Port, protocol: port.Protocol}
	if port.AppProtocol != nil {
		key.appProtocol, key.hasApp = *port.AppProtocol, true
	}
	return key
}

// groupName is equal for equal sets of addresses in equal states.
func groupName(state map[addressKey]bool) string {
	var name strings.Builder
	for _, key := range slices.SortedFunc(maps.Keys(state), compareAddressKeys) {
		fmt.Fprintf(&name, "%s/%s/%t;", key.ip, key.uid, state[key])
	}
	return name.String()
}

func renderSubset(ports []portKey, state map[addressKey]bool, addresses map[addressKey]corev1.EndpointAddress) corev1.EndpointSubset {
	var subset corev1.EndpointSubset
	for _, key := range slices.SortedFunc(maps.Keys(state), compareAddressKeys) {
		if state[key] {
			subset.Addresses = append(subset.Addresses, addresses[key])
		} else {
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, addresses[key])
		}
	}
	for _, key := range slices.SortedFunc(slices.Values(ports), comparePortKeys) {
		if key.port == 0 {
			continue // a headless Service without ports
		}
		port := corev1.EndpointPort{Name: key.name, Port: key.port, Protocol: key.protocol}
		if key.hasApp {
			port.AppProtocol = new(key.appProtocol)
		}
		subset.Ports = append(subset.Ports, port)
	}
	return subset
}

func compareAddressKeys(a, b addressKey) int {
	return cmp.Or(cmp.Compare(a.ip, b.ip), cmp.Compare(a.uid, b.uid))
}

func comparePortKeys(a, b portKey) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.port, b.port),
		cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.appProtocol, b.appProtocol))
}

// compareSubsets orders by ports: no port is in two subsets.
func compareSubsets(a, b corev1.EndpointSubset) int {
	return slices.CompareFunc(a.Ports, b.Ports, func(x, y corev1.EndpointPort) int {
		return comparePortKeys(portKeyOf(&x), portKeyOf(&y))
	})
}
