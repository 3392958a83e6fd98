package servicemirror

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// referrers are the kinds by which the API server is told to call a Service.
func referrers() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"},
		{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"},
		{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"},
	}
}

func object(kind schema.GroupVersionKind) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	obj.SetGroupVersionKind(kind)
	return obj
}

func mirrors() labels.Selector { return labels.SelectorFromSet(labels.Set{MirrorLabel: "true"}) }

// references are the Services that an object of such a kind names.
func references(obj client.Object) []types.NamespacedName {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	var names []types.NamespacedName
	add := func(holder map[string]any, path ...string) {
		service, found, err := unstructured.NestedMap(holder, path...)
		if !found || err != nil {
			return
		}
		namespace, _ := service["namespace"].(string)
		name, _ := service["name"].(string)
		if namespace != "" && name != "" {
			names = append(names, types.NamespacedName{Namespace: namespace, Name: name})
		}
	}
	webhooks, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
	for _, webhook := range webhooks {
		if w, isMap := webhook.(map[string]any); isMap {
			add(w, "clientConfig", "service")
		}
	}
	add(u.Object, "spec", "conversion", "webhook", "clientConfig", "service")
	add(u.Object, "spec", "service")
	return names
}

// stripReferrer keeps an object's identity and its references: a CustomResourceDefinition
// is half a megabyte otherwise.
func stripReferrer(in any) (any, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	u.SetManagedFields(nil)
	u.SetAnnotations(nil)
	delete(u.Object, "status")
	if spec, isMap := u.Object["spec"].(map[string]any); isMap {
		for key := range spec {
			if key != "conversion" && key != "service" {
				delete(spec, key)
			}
		}
	}
	return u, nil
}

// renderMirror is the built-in Service that leads to service, nil where there is no
// address to lead to. It goes with its Service.
func renderMirror(service *keelsonv1.Service) *corev1.Service {
	address := service.Spec.ClusterIP
	if address == "" || address == corev1.ClusterIPNone || service.DeletionTimestamp != nil {
		return nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name,
			Labels: map[string]string{MirrorLabel: "true"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: keelsonv1.GroupVersion.String(), Kind: "Service", Name: service.Name, UID: service.UID,
			}},
		},
		// Upstream calls an ExternalName at the reference's port, and checks no
		// endpoints; a name of digits and dots is a valid one.
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: address},
	}
}
