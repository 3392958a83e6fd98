package summary

import (
	"fmt"
	"strconv"
	"strings"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"

	discoveryv1 "github.com/keelson-dev/keelson/apis/discovery/v1"
)

// unset is what a column of an EndpointSlice shows when there is no value.
const unset = "<unset>"

// EndpointSlice returns the PORTS and ENDPOINTS columns of a slice with these ports and
// endpoints: the first three of each and how many more there are.
func EndpointSlice(ports []upstreamdiscoveryv1.EndpointPort, endpoints []upstreamdiscoveryv1.Endpoint) discoveryv1.EndpointSliceSummary {
	shownPorts := make([]string, 0, len(ports))
	for i := range ports {
		shownPorts = append(shownPorts, slicePort(&ports[i]))
	}
	var addresses []string
	for i := range endpoints {
		addresses = append(addresses, endpoints[i].Addresses...)
	}
	return discoveryv1.EndpointSliceSummary{Ports: firstFew(shownPorts), Endpoints: firstFew(addresses)}
}

// slicePort is the number; a port without one stands for all, or goes by its name.
func slicePort(port *upstreamdiscoveryv1.EndpointPort) string {
	switch {
	case port.Port != nil:
		return strconv.Itoa(int(*port.Port))
	case port.Name != nil:
		return *port.Name
	default:
		return "*"
	}
}

func firstFew(all []string) string {
	column := strings.Join(all[:min(len(all), maxEndpoints)], ",")
	if more := len(all) - maxEndpoints; more > 0 {
		return fmt.Sprintf("%s + %d more...", column, more)
	}
	if column == "" {
		return unset
	}
	return column
}
