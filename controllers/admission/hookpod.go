package admission

import (
	"maps"
	"reflect"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	upstream "k8s.io/apiserver/pkg/admission"

	"github.com/keelson-dev/keelson/gateway/table"
	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// The subresources of Pods that are stored as an update of the Pod itself.
const (
	bindingSubresource   = "binding"
	ephemeralSubresource = "ephemeralcontainers"
	resizeSubresource    = "resize"
)

var podResource = schema.GroupResource{Resource: "pods"}

func isPodUpdate(row table.Row, request *admissionv1.AdmissionRequest) bool {
	return row.Upstream.GroupResource() == podResource && request.SubResource == "" && request.Operation == admissionv1.Update
}

// podAspects are what an update of a Pod may be upstream, besides an update.
func podAspects() []admissionhooks.Point {
	return []admissionhooks.Point{
		{Operation: admissionregistrationv1.Create, Resource: podResource, Subresource: bindingSubresource},
		{Operation: admissionregistrationv1.Update, Resource: podResource, Subresource: ephemeralSubresource},
		{Operation: admissionregistrationv1.Update, Resource: podResource, Subresource: resizeSubresource},
	}
}

// showPodUpdate makes of an update of a Pod the request that it would be upstream, where
// what it changes belongs to a subresource.
func showPodUpdate(r *admissionhooks.Request) {
	now, _ := r.Object["spec"].(map[string]any)
	old, _ := r.OldObject["spec"].(map[string]any)
	node, _ := now["nodeName"].(string)
	had, _ := old["nodeName"].(string)
	switch {
	case had == "" && node != "":
		showBinding(r, node)
	case reflect.DeepEqual(now, old):
	case reflect.DeepEqual(without(now, "ephemeralContainers"), without(old, "ephemeralContainers")):
		r.Subresource = ephemeralSubresource
	case reflect.DeepEqual(withoutResources(now), withoutResources(old)):
		r.Subresource = resizeSubresource
	}
}

func showBinding(r *admissionhooks.Request, node string) {
	metadata := map[string]any{"name": r.Name, "namespace": r.Namespace}
	if uid, _ := nested(r.OldObject, "metadata")["uid"].(string); uid != "" {
		metadata["uid"] = uid
	}
	r.Operation, r.Subresource = upstream.Create, bindingSubresource
	r.Kind = corev1.SchemeGroupVersion.WithKind("Binding")
	r.Options, r.OldObject = nil, nil
	r.Object = map[string]any{
		"apiVersion": "v1", "kind": "Binding", "metadata": metadata,
		"target": map[string]any{"kind": "Node", "name": node},
	}
}

func nested(object map[string]any, key string) map[string]any {
	child, _ := object[key].(map[string]any)
	return child
}

func without(object map[string]any, key string) map[string]any {
	rest := maps.Clone(object)
	delete(rest, key)
	return rest
}

// withoutResources is a Pod's spec without what a resize may change.
func withoutResources(spec map[string]any) map[string]any {
	rest := maps.Clone(spec)
	delete(rest, "resources")
	for _, list := range []string{"containers", "initContainers"} {
		containers, ok := spec[list].([]any)
		if !ok {
			continue
		}
		bare := make([]any, len(containers))
		for i, container := range containers {
			bare[i] = container
			if container, ok := container.(map[string]any); ok {
				bare[i] = without(container, "resources")
			}
		}
		rest[list] = bare
	}
	return rest
}

// isGateway says whether a request is a gateway's own.
func isGateway(username string) bool {
	return username == "keelson:gateway" || username == "system:serviceaccount:"+systemNamespace+":keelson-gateway"
}
