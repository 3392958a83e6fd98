package admission

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// The Service that owns the first address of the range.
const kubernetesServiceNamespace, kubernetesServiceName = corev1.NamespaceDefault, "kubernetes"

// nodePort is a node port as a socket sees it.
type nodePort struct {
	protocol corev1.Protocol
	number   int32
}

// serviceRequest is what a Service asks for and does not have yet.
type serviceRequest struct {
	// addresses are the cluster addresses asked for.
	addresses []string
	// ports are the node ports asked for, by index of spec.ports.
	ports map[int]nodePort
	// health is the port of health checks asked for, 0 for none.
	health int32
}

func (r serviceRequest) empty() bool {
	return len(r.addresses) == 0 && len(r.ports) == 0 && r.health == 0
}

// ownRequest compares spec with the stored one, which is nil on create.
func ownRequest(spec, old *corev1.ServiceSpec) serviceRequest {
	had := map[nodePort]bool{}
	request := serviceRequest{ports: map[int]nodePort{}}
	if old != nil {
		for _, p := range old.Ports {
			had[nodePort{protocolOf(p), p.NodePort}] = true
		}
	}
	for _, address := range spec.ClusterIPs {
		if isIPAddress(address) && (old == nil || !slices.Contains(old.ClusterIPs, address)) {
			request.addresses = append(request.addresses, address)
		}
	}
	if needsHealthPort(spec.Type, string(spec.ExternalTrafficPolicy)) && (old == nil || spec.HealthCheckNodePort != old.HealthCheckNodePort) {
		request.health = spec.HealthCheckNodePort
	}
	for i, p := range spec.Ports {
		key := nodePort{protocolOf(p), p.NodePort}
		if p.NodePort > 0 && hasNodePorts(spec.Type) && !had[key] {
			request.ports[i] = key
		}
	}
	return request
}

func isIPAddress(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// allocation is what other Services hold.
type allocation struct {
	addresses map[string]bool
	ports     map[nodePort]bool
}

// allocated reads the cache of Services. Two requests at the same instant can both
// pass; the service controller, which is alone, settles that.
func (p servicePolicy) allocated(ctx context.Context, except *keelsonv1.Service) (allocation, error) {
	var list keelsonv1.ServiceList
	if err := p.services.List(ctx, &list); err != nil {
		return allocation{}, fmt.Errorf("list Services to see which addresses are taken: %w", err)
	}
	return collectAllocated(list.Items, except), nil
}

func collectAllocated(services []keelsonv1.Service, except *keelsonv1.Service) allocation {
	taken := allocation{addresses: map[string]bool{}, ports: map[nodePort]bool{}}
	for i := range services {
		s := &services[i]
		if s.Namespace == except.Namespace && s.Name == except.Name {
			continue
		}
		for _, ip := range s.Spec.ClusterIPs {
			if addr, err := netip.ParseAddr(ip); err == nil {
				taken.addresses[addr.String()] = true
			}
		}
		for _, p := range s.Spec.Ports {
			if p.NodePort > 0 {
				taken.ports[nodePort{protocolOf(p), p.NodePort}] = true
			}
		}
		if s.Spec.HealthCheckNodePort > 0 {
			taken.ports[nodePort{corev1.ProtocolTCP, s.Spec.HealthCheckNodePort}] = true
		}
	}
	return taken
}

func (p servicePolicy) checkRequest(service *keelsonv1.Service, request serviceRequest, taken allocation) field.ErrorList {
	var errs field.ErrorList
	for _, address := range request.addresses {
		if problem := p.addressProblem(service, address, taken); problem != "" {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs"), service.Spec.ClusterIPs,
				fmt.Sprintf("failed to allocate IP %s: %s", address, problem)))
		}
	}
	for i := range service.Spec.Ports {
		if port, asked := request.ports[i]; asked {
			path := specPath.Child("ports").Index(i).Child("nodePort")
			errs = append(errs, p.checkNodePort(path, port, taken)...)
		}
	}
	if request.health != 0 {
		errs = append(errs, p.checkNodePort(specPath.Child("healthCheckNodePort"), nodePort{corev1.ProtocolTCP, request.health}, taken)...)
	}
	return errs
}

func (p servicePolicy) checkNodePort(path *field.Path, port nodePort, taken allocation) field.ErrorList {
	switch {
	case !p.nodePorts.Contains(port.number):
		return field.ErrorList{field.Invalid(path, port.number,
			fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %s", p.nodePorts))}
	case taken.ports[port]:
		return field.ErrorList{field.Invalid(path, port.number, "provided port is already allocated")}
	}
	return nil
}

// checkNodePortsDistinct repeats for node ports what upstream could not see, because
// they were set aside.
func checkNodePortsDistinct(spec *corev1.ServiceSpec) field.ErrorList {
	var errs field.ErrorList
	seen := map[nodePort]bool{}
	for i, p := range spec.Ports {
		port := nodePort{protocolOf(p), p.NodePort}
		if p.NodePort > 0 && seen[port] {
			errs = append(errs, field.Duplicate(specPath.Child("ports").Index(i).Child("nodePort"), p.NodePort))
		}
		seen[port] = true
	}
	if health := spec.HealthCheckNodePort; health > 0 && seen[nodePort{corev1.ProtocolTCP, health}] {
		errs = append(errs, field.Duplicate(specPath.Child("healthCheckNodePort"), health))
	}
	return errs
}

func (p servicePolicy) addressProblem(service *keelsonv1.Service, address string, taken allocation) string {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return err.Error()
	}
	r := p.addresses.Family(addr.Is4())
	if !r.Contains(addr) {
		valid := make([]string, 0, len(p.addresses))
		for _, r := range p.addresses {
			valid = append(valid, r.String())
		}
		return fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", address, strings.Join(valid, ","))
	}
	first := service.Namespace == kubernetesServiceNamespace && service.Name == kubernetesServiceName
	if taken.addresses[addr.String()] || addr == p.addresses[0].KubernetesAddress() && !first {
		return "provided IP is already allocated"
	}
	return ""
}
