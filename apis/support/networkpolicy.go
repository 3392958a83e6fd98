package support

import (
	"reflect"

	upstreamnetworkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckNetworkPolicy reports every field of a NetworkPolicy's spec that Keelson does not
// implement.
func CheckNetworkPolicy(spec *upstreamnetworkingv1.NetworkPolicySpec, path *field.Path) field.ErrorList {
	return networkPolicyTable().check(spec, path)
}

func networkPolicyTable() Table {
	t := Table{Kind: "NetworkPolicy", Root: "spec", Type: reflect.TypeFor[upstreamnetworkingv1.NetworkPolicySpec](), Entries: map[string]Entry{
		"spec.ingress": noted("what a node itself sends to its own Pods is always allowed"),
	}}
	t.with("spec.", supported(), "podSelector", "policyTypes", "egress", "ingress[*].from", "egress[*].to", "ingress[*].ports", "egress[*].ports")
	t.with("spec.podSelector.", supported(), "matchLabels", "matchExpressions", "matchExpressions[*].key", "matchExpressions[*].operator", "matchExpressions[*].values")
	for _, peer := range []string{"spec.ingress[*].from[*].", "spec.egress[*].to[*]."} {
		t.with(peer, supported(), "ipBlock", "ipBlock.cidr", "ipBlock.except", "podSelector", "namespaceSelector")
		for _, selector := range []string{"podSelector.", "namespaceSelector."} {
			t.with(peer+selector, supported(), "matchLabels", "matchExpressions", "matchExpressions[*].key", "matchExpressions[*].operator", "matchExpressions[*].values")
		}
	}
	for _, port := range []string{"spec.ingress[*].ports[*].", "spec.egress[*].ports[*]."} {
		t.with(port, supported(), "protocol", "port", "endPort")
	}
	return t
}
