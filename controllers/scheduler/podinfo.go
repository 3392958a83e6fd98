package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// PodInfo is a Pod with what filters and scores ask of it, computed once. It is
// never changed.
type PodInfo struct {
	Pod *keelsonv1.Pod

	requests amounts
	scored   amounts
	ports    []hostPort
	affinity nodeaffinity.RequiredNodeAffinity
}

// NewPodInfo keeps pod, which must not be changed afterwards.
func NewPodInfo(pod *keelsonv1.Pod) *PodInfo {
	upstream := pod.Upstream()
	return &PodInfo{
		Pod:      pod,
		requests: podRequests(upstream),
		scored:   podScoredRequests(upstream),
		ports:    hostPorts(&pod.Spec),
		affinity: nodeaffinity.GetRequiredNodeAffinity(upstream),
	}
}

// usage is what a bound Pod takes from its Node: all that the cache keeps of it.
type usage struct {
	requests amounts
	scored   amounts
	ports    []hostPort
}

func (p *PodInfo) usage() usage {
	return usage{requests: p.requests, scored: p.scored, ports: p.ports}
}

// hostPort is one claim on a port of the Node itself.
type hostPort struct {
	ip       string // 0.0.0.0 claims the port on every address
	protocol corev1.Protocol
	port     int32
}

const anyAddress = "0.0.0.0"

func hostPorts(spec *corev1.PodSpec) []hostPort {
	var ports []hostPort
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, container := range containers {
			for _, port := range container.Ports {
				if claimed, ok := claim(port); ok {
					ports = append(ports, claimed)
				}
			}
		}
	}
	return ports
}

func claim(port corev1.ContainerPort) (hostPort, bool) {
	if port.HostPort <= 0 {
		return hostPort{}, false
	}
	claimed := hostPort{ip: port.HostIP, protocol: port.Protocol, port: port.HostPort}
	if claimed.ip == "" {
		claimed.ip = anyAddress
	}
	if claimed.protocol == "" {
		claimed.protocol = corev1.ProtocolTCP
	}
	return claimed, true
}

// conflicts tells whether two claims cannot both be served by one Node.
func (p hostPort) conflicts(other hostPort) bool {
	return p.port == other.port && p.protocol == other.protocol &&
		(p.ip == other.ip || p.ip == anyAddress || other.ip == anyAddress)
}

// isTerminal tells whether the Pod has ended and holds no resources any more.
func isTerminal(pod *keelsonv1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
