package admission

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

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
	// address is set when a certain cluster address is asked for.
	address string
	// ports are the node ports asked for, by index of spec.ports.
	ports map[int]nodePort
}

func (r serviceRequest) empty() bool { return r.address == "" && len(r.ports) == 0 }

// ownRequest compares spec with the stored one, which is nil on create.
func ownRequest(spec, old *corev1.ServiceSpec) serviceRequest {
	had := map[nodePort]bool{}
	request := serviceRequest{ports: map[int]nodePort{}}
	if old != nil {
		for _, p := range old.Ports {
			had[nodePort{protocolOf(p), p.NodePort}] = true
		}
	}
	if len(spec.ClusterIPs) > 0 && isIPAddress(spec.ClusterIPs[0]) && (old == nil || !slices.Equal(old.ClusterIPs, spec.ClusterIPs)) {
		request.address = spec.ClusterIPs[0]
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
			taken.addresses[ip] = true
		}
		for _, p := range s.Spec.Ports {
			if p.NodePort > 0 {
				taken.ports[nodePort{protocolOf(p), p.NodePort}] = true
			}
		}
	}
	return taken
}

func (p servicePolicy) checkRequest(service *keelsonv1.Service, request serviceRequest, taken allocation) field.ErrorList {
	var errs field.ErrorList
	if request.address != "" {
		if problem := p.addressProblem(service, request.address, taken); problem != "" {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs"), service.Spec.ClusterIPs,
				fmt.Sprintf("failed to allocate IP %s: %s", request.address, problem)))
		}
	}
	for i := range service.Spec.Ports {
		port, asked := request.ports[i]
		path := specPath.Child("ports").Index(i).Child("nodePort")
		switch {
		case !asked:
		case !p.nodePorts.Contains(port.number):
			errs = append(errs, field.Invalid(path, port.number,
				fmt.Sprintf("provided port is not in the valid range. The range of valid ports is %s", p.nodePorts)))
		case taken.ports[port]:
			errs = append(errs, field.Invalid(path, port.number, "provided port is already allocated"))
		}
	}
	return errs
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
	return errs
}

func (p servicePolicy) addressProblem(service *keelsonv1.Service, address string, taken allocation) string {
	addr, err := netip.ParseAddr(address)
	if err != nil || !p.addresses.Contains(addr) {
		return fmt.Sprintf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", address, p.addresses)
	}
	first := service.Namespace == kubernetesServiceNamespace && service.Name == kubernetesServiceName
	if taken.addresses[address] || addr == p.addresses.KubernetesAddress() && !first {
		return "provided IP is already allocated"
	}
	return ""
}

// checkClusterIPShape repeats for addresses what upstream could not see, because
// they were set aside.
func checkClusterIPShape(spec *corev1.ServiceSpec) field.ErrorList {
	path := specPath.Child("clusterIPs")
	if !slices.ContainsFunc(append(slices.Clone(spec.ClusterIPs), spec.ClusterIP), isIPAddress) {
		return nil
	}
	switch {
	case spec.ClusterIP == "":
		return field.ErrorList{field.Invalid(path, spec.ClusterIPs, "must be empty when `clusterIP` is not specified")}
	case spec.ClusterIPs[0] != spec.ClusterIP:
		return field.ErrorList{field.Invalid(path, spec.ClusterIPs, "first value must match `clusterIP`")}
	case len(spec.ClusterIPs) > 1:
		return field.ErrorList{field.Forbidden(path.Index(1), "not supported by Keelson yet: addresses are IPv4, one per Service")}
	}
	return nil
}

// checkClusterIPKept holds a Service to the address it has, or to having none.
func checkClusterIPKept(spec, old *corev1.ServiceSpec) field.ErrorList {
	if old.Type == corev1.ServiceTypeExternalName || spec.Type == corev1.ServiceTypeExternalName || len(old.ClusterIPs) == 0 {
		return nil
	}
	if len(spec.ClusterIPs) == 0 || spec.ClusterIPs[0] != old.ClusterIPs[0] {
		return field.ErrorList{field.Invalid(specPath.Child("clusterIPs").Index(0), spec.ClusterIPs, "may not change once set")}
	}
	return nil
}
