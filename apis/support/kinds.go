package support

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
)

func replicationControllerTable() Table {
	t := Table{Kind: "ReplicationController", Root: "spec", Type: reflect.TypeFor[corev1.ReplicationControllerSpec](), Entries: map[string]Entry{
		"spec.template": podTemplate(),
	}}
	return t.with("spec.", supported(), "replicas", "minReadySeconds", "selector")
}

func serviceTable() Table {
	t := Table{Kind: "Service", Root: "spec", Type: reflect.TypeFor[corev1.ServiceSpec](), Entries: map[string]Entry{
		"spec.clusterIP":             noted("an address of Keelson's own service range, or None"),
		"spec.clusterIPs":            noted("one address of each family, the first one equal to clusterIP"),
		"spec.ports[*].protocol":     noted("SCTP where the kernel of the node has it"),
		"spec.ports[*].appProtocol":  noted("a hint for clients"),
		"spec.externalIPs":           noted("the network outside must bring their traffic to a node"),
		"spec.loadBalancerIP":        noted("a wish, as upstream; deprecated there"),
		"spec.loadBalancerClass":     noted("leaves the Service to the implementation of that name"),
		"spec.trafficDistribution":   noted("hints in EndpointSlices, which the proxy follows"),
		"spec.internalTrafficPolicy": supported(),
	}}
	t.with("spec.", supported(), "type", "ports", "selector", "externalName", "ipFamilies", "ipFamilyPolicy", "sessionAffinity",
		"externalTrafficPolicy", "healthCheckNodePort", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "publishNotReadyAddresses")
	t.with("spec.sessionAffinityConfig", supported(), "", ".clientIP", ".clientIP.timeoutSeconds")
	return t.with("spec.ports[*].", supported(), "name", "port", "targetPort", "nodePort")
}

func endpointsTable() Table {
	t := Table{Kind: "Endpoints", Root: "subsets[*]", Type: reflect.TypeFor[corev1.EndpointSubset](), Entries: map[string]Entry{
		"subsets[*].ports[*].protocol":    noted("SCTP where the kernel of the node has it"),
		"subsets[*].ports[*].appProtocol": noted("a hint for clients"),
	}}
	t.with("subsets[*].", supported(), "addresses", "notReadyAddresses", "ports")
	t.with("subsets[*].ports[*].", supported(), "name", "port")
	for _, list := range []string{"subsets[*].addresses[*].", "subsets[*].notReadyAddresses[*]."} {
		t.with(list, supported(), "ip", "hostname")
		t.with(list, noted("recorded"), "nodeName", "targetRef", "targetRef.kind", "targetRef.namespace", "targetRef.name",
			"targetRef.uid", "targetRef.apiVersion", "targetRef.resourceVersion", "targetRef.fieldPath")
	}
	return t
}

func nodeTable() Table {
	t := Table{Kind: "Node", Root: "spec", Type: reflect.TypeFor[corev1.NodeSpec](), Entries: map[string]Entry{
		"spec.podCIDR":             noted("written by the manager"),
		"spec.podCIDRs":            noted("written by the manager; one range of each family"),
		"spec.providerID":          noted("recorded"),
		"spec.configSource":        refused("a node agent reads its own configuration file"),
		"spec.externalID":          refused("upstream has retired it"),
		"spec.podPreemptionPolicy": refused("upstream has it behind an alpha gate"),
		"spec.taints[*].effect":    supported(),
	}}
	t.with("spec.", supported(), "unschedulable", "taints")
	return t.with("spec.taints[*].", supported(), "key", "value", "timeAdded")
}
