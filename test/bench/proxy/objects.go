package main

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	benchNamespace = "bench"
	nodeName       = "bench"
	// maxEndpoints is how many addresses there are for them.
	maxEndpoints = 60000
	// probes are the Services, spread over all, that are really asked. Each has one
	// endpoint, which listens; the endpoints of the others exist nowhere.
	probes = 20
	// servicePort and endpointPort are the same for all.
	servicePort, endpointPort = 80, 8080
)

// clusterIP is the address of the Service with a number; the first ones are the API
// server's.
func clusterIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 254, byte((i + 10) >> 8), byte(i + 10)})
}

// listener is one of the two addresses that serve for a probe.
func listener(probe, which int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 244, byte(250 + which), byte(1 + probe)})
}

// probeService is the number of the Service of a probe.
func probeService(probe, services int) int { return probe * (services - 1) / (probes - 1) }

// endpointsOf returns the addresses behind a Service before any change.
func endpointsOf(i, services, endpoints int) []netip.Addr {
	for probe := range probes {
		if probeService(probe, services) == i {
			return []netip.Addr{listener(probe, 0)}
		}
	}
	out := make([]netip.Addr, endpoints)
	for e := range out {
		number := i*endpoints + e
		out[e] = netip.AddrFrom4([4]byte{10, 244, byte(number >> 8), byte(number)})
	}
	return out
}

func object(apiVersion, kind, name string, fields map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	for key, value := range fields {
		o.Object[key] = value
	}
	o.SetName(name)
	return o
}

func serviceName(i int) string { return fmt.Sprintf("service-%05d", i) }

func service(apiVersion string, i int) *unstructured.Unstructured {
	ip := clusterIP(i).String()
	return object(apiVersion, "Service", serviceName(i), map[string]any{"spec": map[string]any{
		"type": "ClusterIP", "clusterIP": ip, "clusterIPs": []any{ip}, "sessionAffinity": "None",
		"ipFamilies": []any{"IPv4"}, "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster",
		"ports": []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(servicePort), "targetPort": int64(endpointPort)}},
	}})
}

func slice(apiVersion string, i int, endpoints []netip.Addr) *unstructured.Unstructured {
	list := make([]any, 0, len(endpoints))
	for _, ip := range endpoints {
		list = append(list, map[string]any{
			"addresses": []any{ip.String()}, "nodeName": "elsewhere",
			"conditions": map[string]any{"ready": true, "serving": true, "terminating": false},
		})
	}
	o := object(apiVersion, "EndpointSlice", serviceName(i)+"-abcde", map[string]any{
		"addressType": "IPv4", "endpoints": list,
		"ports": []any{map[string]any{"name": "http", "protocol": "TCP", "port": int64(endpointPort)}},
	})
	o.SetLabels(map[string]string{"kubernetes.io/service-name": serviceName(i), "endpointslice.kubernetes.io/managed-by": "bench"})
	return o
}
