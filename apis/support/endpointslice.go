package support

import (
	"reflect"

	upstreamdiscoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// EndpointSliceFields are the fields of an EndpointSlice beside its metadata; the kind
// has no spec.
type EndpointSliceFields struct {
	AddressType upstreamdiscoveryv1.AddressType    `json:"addressType"`
	Endpoints   []upstreamdiscoveryv1.Endpoint     `json:"endpoints"`
	Ports       []upstreamdiscoveryv1.EndpointPort `json:"ports"`
}

// CheckEndpointSlice reports every field of an EndpointSlice that Keelson does not
// implement.
func CheckEndpointSlice(slice *EndpointSliceFields) field.ErrorList {
	return endpointSliceTable().check(slice, nil)
}

func endpointSliceTable() Table {
	t := Table{Kind: "EndpointSlice", Type: reflect.TypeFor[EndpointSliceFields](), Entries: map[string]Entry{
		"addressType":                     noted("the proxy sends nothing to addresses of type FQDN, as upstream's"),
		"ports[*].appProtocol":            noted("a hint for clients"),
		"endpoints[*].deprecatedTopology": refused("upstream's API v1 drops it; use nodeName and zone"),
	}}
	t.with("", supported(), "endpoints", "ports")
	t.with("ports[*].", supported(), "name", "port", "protocol")
	t.with("endpoints[*].", supported(), "addresses", "hostname", "nodeName", "zone")
	t.with("endpoints[*].conditions", supported(), "", ".ready", ".serving", ".terminating")
	t.with("endpoints[*].hints", supported(), "", ".forZones", ".forZones[*].name", ".forNodes", ".forNodes[*].name")
	return t.with("endpoints[*].targetRef", noted("recorded"), "", ".kind", ".namespace", ".name", ".uid", ".apiVersion", ".resourceVersion", ".fieldPath")
}
