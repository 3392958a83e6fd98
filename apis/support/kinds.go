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
		"spec.type":                  only("no load balancer, and no DNS for aliases", string(corev1.ServiceTypeClusterIP), string(corev1.ServiceTypeNodePort)),
		"spec.clusterIP":             noted("an address of Keelson's own service range, or None"),
		"spec.clusterIPs":            noted("one address, equal to clusterIP"),
		"spec.ports[*].protocol":     only("", string(corev1.ProtocolTCP), string(corev1.ProtocolUDP)),
		"spec.ports[*].appProtocol":  noted("a hint for clients"),
		"spec.ipFamilies":            only("addresses are IPv4", string(corev1.IPv4Protocol)),
		"spec.ipFamilyPolicy":        only("addresses are IPv4", string(corev1.IPFamilyPolicySingleStack)),
		"spec.internalTrafficPolicy": only("endpoints of all nodes serve", string(corev1.ServiceInternalTrafficPolicyCluster)),
		"spec.externalTrafficPolicy": only("endpoints of all nodes serve", string(corev1.ServiceExternalTrafficPolicyCluster)),
		"spec.trafficDistribution":   refused("endpoints of all nodes serve alike"),
		"spec.externalIPs":           refused("only cluster addresses and node ports are served; use type NodePort"),
		"spec.externalName":          refused("there is no DNS for aliases"),
		"spec.healthCheckNodePort":   refused("there is no load balancer to answer"),
	}}
	t.with("spec.", refused("there is no load balancer; use type NodePort"),
		"loadBalancerIP", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass")
	t.with("spec.", supported(), "ports", "selector", "sessionAffinity", "sessionAffinityConfig", "publishNotReadyAddresses",
		"sessionAffinityConfig.clientIP", "sessionAffinityConfig.clientIP.timeoutSeconds")
	return t.with("spec.ports[*].", supported(), "name", "port", "targetPort", "nodePort")
}

func endpointsTable() Table {
	t := Table{Kind: "Endpoints", Root: "subsets[*]", Type: reflect.TypeFor[corev1.EndpointSubset](), Entries: map[string]Entry{
		"subsets[*].ports[*].protocol":    only("", string(corev1.ProtocolTCP), string(corev1.ProtocolUDP)),
		"subsets[*].ports[*].appProtocol": noted("a hint for clients"),
	}}
	t.with("subsets[*].", supported(), "addresses", "notReadyAddresses", "ports")
	t.with("subsets[*].ports[*].", supported(), "name", "port")
	for _, list := range []string{"subsets[*].addresses[*].", "subsets[*].notReadyAddresses[*]."} {
		t.with(list, supported(), "ip")
		t.with(list, noted("recorded"), "nodeName", "targetRef", "targetRef.kind", "targetRef.namespace", "targetRef.name",
			"targetRef.uid", "targetRef.apiVersion", "targetRef.resourceVersion", "targetRef.fieldPath")
		t.with(list, refused("no DNS names are published for single addresses"), "hostname")
	}
	return t
}

func nodeTable() Table {
	t := Table{Kind: "Node", Root: "spec", Type: reflect.TypeFor[corev1.NodeSpec](), Entries: map[string]Entry{
		"spec.podCIDR":             noted("written by the manager"),
		"spec.podCIDRs":            noted("written by the manager; one range"),
		"spec.providerID":          noted("recorded"),
		"spec.configSource":        refused("a node agent reads its own configuration file"),
		"spec.externalID":          refused("upstream has retired it"),
		"spec.podPreemptionPolicy": refused("the scheduler does not preempt"),
		"spec.taints[*].effect":    supported(),
	}}
	t.with("spec.", supported(), "unschedulable", "taints")
	return t.with("spec.taints[*].", supported(), "key", "value", "timeAdded")
}
