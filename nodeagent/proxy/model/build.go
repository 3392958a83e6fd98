package model

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// endpointsOf maps a port's name and protocol to the ready addresses behind it.
type endpointsOf map[portKey][]netip.AddrPort

type portKey struct {
	name     string
	protocol Protocol
}

// buildPorts returns the ports of a Service without endpoints; none when the Service
// has no IPv4 cluster address (headless, ExternalName, not allocated yet).
func buildPorts(svc *keelsonv1.Service) []ServicePort {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil || !ip.Is4() {
		return nil
	}
	ports := make([]ServicePort, 0, len(svc.Spec.Ports))
	for _, port := range svc.Spec.Ports {
		sp := ServicePort{
			Name:            PortName{Service: types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}, Port: port.Name},
			Protocol:        protocolOf(port.Protocol),
			ClusterIP:       ip,
			Port:            uint16(port.Port),
			AffinitySeconds: affinitySeconds(svc),
		}
		if svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
			sp.NodePort = uint16(port.NodePort)
		}
		ports = append(ports, sp)
	}
	return ports
}

func affinitySeconds(svc *keelsonv1.Service) int32 {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return corev1.DefaultClientIPServiceAffinitySeconds
}

// protocolOf converts an API protocol; the API's default is TCP.
func protocolOf(p corev1.Protocol) Protocol {
	if p == "" {
		return TCP
	}
	return Protocol(strings.ToLower(string(p)))
}

// buildEndpoints returns the ready IPv4 addresses by port, each list sorted and
// without repetition. Not-ready addresses never receive traffic here: a Service that
// publishes them has them among its ready addresses.
func buildEndpoints(eps *keelsonv1.Endpoints) endpointsOf {
	out := endpointsOf{}
	for _, subset := range eps.Subsets {
		for _, port := range subset.Ports {
			key := portKey{name: port.Name, protocol: protocolOf(port.Protocol)}
			for _, address := range subset.Addresses {
				ip, err := netip.ParseAddr(address.IP)
				if err != nil || !ip.Is4() {
					continue
				}
				out[key] = append(out[key], netip.AddrPortFrom(ip, uint16(port.Port)))
			}
		}
	}
	for key, list := range out {
		slices.SortFunc(list, netip.AddrPort.Compare)
		out[key] = slices.Compact(list)
	}
	return out
}
