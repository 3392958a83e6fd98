package table

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// ForRequest returns the row that a request is about: a request with a row is served,
// and so authorized, by the gateway; every other one is the API server's. Authorization
// and routing both ask here, so that they cannot disagree.
//
// A RequestInfo can be read from paths that no Kubernetes API serves, such as a Node in
// a namespace, for which the rights in that namespace would count. They have no row: the
// API server refuses them in the caller's name.
//
// The legacy resource bindings stores nothing of its own: a Binding is written into a
// Pod, so it belongs to the row of Pods.
func (t *Table) ForRequest(info *request.RequestInfo) (Row, bool) {
	if info == nil || !info.IsResourceRequest {
		return Row{}, false
	}
	resource := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	legacyBinding := resource == corev1.SchemeGroupVersion.WithResource("bindings")
	if legacyBinding {
		resource.Resource = "pods"
	}
	row, ok := t.Upstream(resource)
	if !ok {
		row, ok = t.byOlder[resource]
	}
	if !ok || !row.isPath(info) || legacyBinding && len(info.Parts) > 1 {
		return Row{}, false
	}
	return row, true
}

// Older says whether a request on the row names one of its older versions.
func (r Row) Older(info *request.RequestInfo) bool {
	return slices.Contains(r.OlderVersions, info.APIVersion) && info.APIGroup == r.Upstream.Group && info.Resource == r.Upstream.Resource
}

// isPath says whether a Kubernetes API with the row's kind has the path of a request:
//
//	[watch/]RESOURCE[/NAME]
//	[watch/]namespaces/NAMESPACE/RESOURCE[/NAME]
//	[namespaces/NAMESPACE/]RESOURCE/NAME/SUBRESOURCE, for a proxy with more behind it
func (r Row) isPath(info *request.RequestInfo) bool {
	const whole = 3 // resource, name and subresource
	switch {
	case info.Verb == "proxy": // as the first part of the path, which is long gone
		return false
	case info.Verb == "watch" && info.Subresource != "":
		return false
	case len(info.Parts) > whole && info.Subresource != "proxy":
		return false
	case !r.Namespaced:
		return info.Namespace == ""
	case info.Namespace == "": // across namespaces
		return len(info.Parts) == 1 && (info.Verb == "list" || info.Verb == "watch")
	}
	return true
}
