package table

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// ForRequest returns the row that a request is about: a request with a row is served,
// and so authorized, by the gateway; every other one is the API server's. Authorization
// and routing both ask here, so that they cannot disagree.
//
// The legacy resource bindings stores nothing of its own: a Binding is written into a
// Pod, so it belongs to the row of Pods.
func (t *Table) ForRequest(info *request.RequestInfo) (Row, bool) {
	if info == nil || !info.IsResourceRequest {
		return Row{}, false
	}
	resource := schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}
	if resource == corev1.SchemeGroupVersion.WithResource("bindings") {
		resource.Resource = "pods"
	}
	return t.Upstream(resource)
}
