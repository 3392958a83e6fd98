package summary

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// maxEndpoints is how many addresses the ENDPOINTS column spells out.
const maxEndpoints = 3

// Service returns the CLUSTER-IP, EXTERNAL-IP, PORT(S) and SELECTOR columns of
// service.
func Service(service *keelsonv1.Service) keelsonv1.ServiceSummary {
	selector := None
	if len(service.Spec.Selector) > 0 {
		selector = labels.Set(service.Spec.Selector).String()
	}
	clusterIP := None
	if len(service.Spec.ClusterIPs) > 0 {
		clusterIP = service.Spec.ClusterIPs[0]
	}
	return keelsonv1.ServiceSummary{
		ClusterIP:  clusterIP,
		ExternalIP: externalIP(service),
		Ports:      servicePorts(service.Spec.Ports),
		Selector:   selector,
	}
}

func externalIP(service *keelsonv1.Service) string {
	external := service.Spec.ExternalIPs
	switch service.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return service.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		all := append(ingressAddresses(&service.Status.LoadBalancer), external...)
		if len(all) == 0 {
			return "<pending>"
		}
		return strings.Join(all, ",")
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort:
		if len(external) == 0 {
			return None
		}
		return strings.Join(external, ",")
	default:
		return "<unknown>"
	}
}

func ingressAddresses(status *corev1.LoadBalancerStatus) []string {
	var all []string
	for _, in := range status.Ingress {
		if in.IP != "" {
			all = append(all, in.IP)
		} else if in.Hostname != "" {
			all = append(all, in.Hostname)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func servicePorts(ports []corev1.ServicePort) string {
	if len(ports) == 0 {
		return None
	}
	columns := make([]string, 0, len(ports))
	for _, p := range ports {
		number := strconv.Itoa(int(p.Port))
		if p.NodePort > 0 {
			number += ":" + strconv.Itoa(int(p.NodePort))
		}
		columns = append(columns, number+"/"+string(p.Protocol))
	}
	return strings.Join(columns, ",")
}

// Endpoints returns the ENDPOINTS column of an object with these subsets: the
// first three ready addresses and how many more there are.
func Endpoints(subsets []corev1.EndpointSubset) keelsonv1.EndpointsSummary {
	if len(subsets) == 0 {
		return keelsonv1.EndpointsSummary{Endpoints: None}
	}
	all := endpointAddresses(subsets)
	column := strings.Join(all[:min(len(all), maxEndpoints)], ",")
	if more := len(all) - maxEndpoints; more > 0 {
		column = fmt.Sprintf("%s + %d more...", column, more)
	}
	return keelsonv1.EndpointsSummary{Endpoints: column}
}

func endpointAddresses(subsets []corev1.EndpointSubset) []string {
	var all []string
	for _, subset := range subsets {
		if len(subset.Ports) == 0 { // a headless Service may have no ports
			for _, a := range subset.Addresses {
				all = append(all, a.IP)
			}
		}
		for _, p := range subset.Ports {
			for _, a := range subset.Addresses {
				all = append(all, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	return all
}
