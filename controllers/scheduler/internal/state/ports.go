package state

import (
	corev1 "k8s.io/api/core/v1"
)

// HostPort is one claim on a port of the Node itself.
type HostPort struct {
	IP       string // 0.0.0.0 claims the port on every address
	Protocol corev1.Protocol
	Port     int32
}

const anyAddress = "0.0.0.0"

func hostPorts(spec *corev1.PodSpec) []HostPort {
	var ports []HostPort
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, port := range containers[i].Ports {
				if claimed, ok := claim(port); ok {
					ports = append(ports, claimed)
				}
			}
		}
	}
	return ports
}

func claim(port corev1.ContainerPort) (HostPort, bool) {
	if port.HostPort <= 0 {
		return HostPort{}, false
	}
	claimed := HostPort{IP: port.HostIP, Protocol: port.Protocol, Port: port.HostPort}
	if claimed.IP == "" {
		claimed.IP = anyAddress
	}
	if claimed.Protocol == "" {
		claimed.Protocol = corev1.ProtocolTCP
	}
	return claimed, true
}

// Conflicts tells whether two claims cannot both be served by one Node.
func (p HostPort) Conflicts(other HostPort) bool {
	return p.Port == other.Port && p.Protocol == other.Protocol &&
		(p.IP == other.IP || p.IP == anyAddress || other.IP == anyAddress)
}
