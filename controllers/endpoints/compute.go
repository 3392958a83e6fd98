package endpoints

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/podstatus"
	"github.com/keelson-dev/keelson/controllers/internal/servicepods"
	"github.com/keelson-dev/keelson/controllers/internal/subsets"
)

// computeSubsets returns the canonical subsets of a Service for these Pods, those
// that its selector does not match left out.
func computeSubsets(service *keelsonv1.Service, pods []*keelsonv1.Pod) []corev1.EndpointSubset {
	selector := labels.SelectorFromSet(service.Spec.Selector)
	var found []subsets.Contribution
	for _, pod := range pods {
		if !selector.Matches(labels.Set(pod.Labels)) || !belongs(pod, service.Spec.PublishNotReadyAddresses) {
			continue
		}
		address, ok := addressOf(service, pod)
		if !ok {
			continue
		}
		ready := service.Spec.PublishNotReadyAddresses || podstatus.IsReady(pod)
		for _, port := range portsOf(service, pod) {
			found = append(found, subsets.Contribution{Address: address, Ready: ready, Port: port})
		}
	}
	return subsets.Repack(found)
}

// belongs says whether pod can be an endpoint at all. Finished Pods are out, and so
// are terminating ones, except where even unready addresses are wanted.
func belongs(pod *keelsonv1.Pod, includeTerminating bool) bool {
	if podstatus.IsFinished(pod) {
		return false
	}
	return includeTerminating || pod.DeletionTimestamp == nil
}

func addressOf(service *keelsonv1.Service, pod *keelsonv1.Pod) (corev1.EndpointAddress, bool) {
	ip, ok := podIP(pod, wantsIPv6(service))
	if !ok {
		return corev1.EndpointAddress{}, false
	}
	address := corev1.EndpointAddress{
		IP:       ip.String(),
		NodeName: new(pod.Spec.NodeName),
		TargetRef: &corev1.ObjectReference{
			Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name && service.Namespace == pod.Namespace {
		address.Hostname = pod.Spec.Hostname
	}
	return address, true
}

// wantsIPv6 follows the Service's first family, then its address. Families are
// defaulted at admission, which may not have happened.
func wantsIPv6(service *keelsonv1.Service) bool {
	if len(service.Spec.IPFamilies) > 0 {
		return service.Spec.IPFamilies[0] == corev1.IPv6Protocol
	}
	addr, err := netip.ParseAddr(service.Spec.ClusterIP)
	return err == nil && addr.Is6()
}

func podIP(pod *keelsonv1.Pod, ipv6 bool) (netip.Addr, bool) {
	for _, candidate := range servicepods.PodIPs(pod) {
		addr, err := netip.ParseAddr(candidate)
		if err == nil && addr.Unmap().Is6() == ipv6 {
			return addr.Unmap(), true
		}
	}
	return netip.Addr{}, false
}

// portsOf returns the endpoint ports that pod offers for service. A headless Service
// without ports has endpoints without ports, for which stands the zero port.
func portsOf(service *keelsonv1.Service, pod *keelsonv1.Pod) []corev1.EndpointPort {
	if len(service.Spec.Ports) == 0 {
		if service.Spec.ClusterIP == corev1.ClusterIPNone {
			return []corev1.EndpointPort{{}}
		}
		return nil
	}
	var ports []corev1.EndpointPort
	for i := range service.Spec.Ports {
		servicePort := &service.Spec.Ports[i]
		if number, ok := targetPort(servicePort, pod); ok {
			ports = append(ports, corev1.EndpointPort{
				Name:        servicePort.Name,
				Port:        number,
				Protocol:    protocolOf(servicePort.Protocol),
				AppProtocol: servicePort.AppProtocol,
			})
		}
	}
	return ports
}

// targetPort finds the number behind port's targetPort: a name is looked up among
// the ports of the containers and of sidecars, for the same protocol; a missing one
// is the Service port itself.
func targetPort(port *corev1.ServicePort, pod *keelsonv1.Pod) (int32, bool) {
	target := port.TargetPort
	if target.Type == intstr.Int {
		if target.IntVal == 0 {
			return port.Port, true
		}
		return target.IntVal, true
	}
	for _, containers := range [][]corev1.Container{pod.Spec.Containers, sidecarsOf(pod)} {
		for i := range containers {
			for _, candidate := range containers[i].Ports {
				if candidate.Name == target.StrVal && protocolOf(candidate.Protocol) == protocolOf(port.Protocol) {
					return candidate.ContainerPort, true
				}
			}
		}
	}
	return 0, false
}

func sidecarsOf(pod *keelsonv1.Pod) []corev1.Container {
	var sidecars []corev1.Container
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecars = append(sidecars, c)
		}
	}
	return sidecars
}

func protocolOf(protocol corev1.Protocol) corev1.Protocol {
	if protocol == "" {
		return corev1.ProtocolTCP
	}
	return protocol
}
