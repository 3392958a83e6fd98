package env

import (
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Variable is one variable of a container's environment.
type Variable struct {
	Name, Value string
}

// apiService is the Service that every container hears of.
const apiService = "kubernetes"

// Services returns the variables that announce services to a Pod of namespace: both
// NAME_SERVICE_HOST/_PORT and Docker's link variables. Without links only the API
// server's Service is announced. Services without a cluster address are left out.
// The order follows the names, so that equal Services give equal results.
func Services(services []keelsonv1.Service, namespace string, links bool) []Variable {
	announced := map[string]*keelsonv1.Service{}
	for i := range services {
		s := &services[i]
		if ip := s.Spec.ClusterIP; ip == "" || ip == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		if isAPIServer(s) || hears(s, namespace, links) && announced[s.Name] == nil {
			announced[s.Name] = s
		}
	}
	var variables []Variable
	for _, name := range sortedKeys(announced) {
		variables = append(variables, serviceVariables(announced[name])...)
	}
	return variables
}

// WantsLinks says whether the Pod hears of the Services of its namespace.
func WantsLinks(pod *keelsonv1.Pod) bool { return ptr.Deref(pod.Spec.EnableServiceLinks, true) }

// AwaitedServices names those of services that are older than pod and would be
// announced to it if they had their cluster address already, in order.
func AwaitedServices(pod *keelsonv1.Pod, services []keelsonv1.Service) []string {
	var names []string
	for i := range services {
		s := &services[i]
		switch {
		case s.Spec.ClusterIP != "" || s.Spec.Type == corev1.ServiceTypeExternalName || len(s.Spec.Ports) == 0:
		case !s.DeletionTimestamp.IsZero() || s.CreationTimestamp.After(pod.CreationTimestamp.Time):
		case isAPIServer(s) || hears(s, pod.Namespace, WantsLinks(pod)):
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

func isAPIServer(s *keelsonv1.Service) bool {
	return s.Namespace == metav1.NamespaceDefault && s.Name == apiService
}

func hears(s *keelsonv1.Service, namespace string, links bool) bool {
	return links && s.Namespace == namespace
}

func serviceVariables(s *keelsonv1.Service) []Variable {
	prefix, ip := variableName(s.Name), s.Spec.ClusterIP
	first := s.Spec.Ports[0]
	variables := []Variable{
		{prefix + "_SERVICE_HOST", ip},
		{prefix + "_SERVICE_PORT", portText(first.Port)},
	}
	for _, port := range s.Spec.Ports {
		if port.Name != "" {
			variables = append(variables, Variable{prefix + "_SERVICE_PORT_" + variableName(port.Name), portText(port.Port)})
		}
	}
	variables = append(variables, Variable{prefix + "_PORT", portURL(ip, first)})
	for _, port := range s.Spec.Ports {
		one := prefix + "_PORT_" + portText(port.Port) + "_" + strings.ToUpper(protocol(port))
		variables = append(variables,
			Variable{one, portURL(ip, port)},
			Variable{one + "_PROTO", protocol(port)},
			Variable{one + "_PORT", portText(port.Port)},
			Variable{one + "_ADDR", ip},
		)
	}
	return variables
}

func variableName(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }

func portText(port int32) string { return strconv.Itoa(int(port)) }

func portURL(ip string, port corev1.ServicePort) string {
	return protocol(port) + "://" + net.JoinHostPort(ip, portText(port.Port))
}

func protocol(port corev1.ServicePort) string {
	if port.Protocol == "" {
		return "tcp"
	}
	return strings.ToLower(string(port.Protocol))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
