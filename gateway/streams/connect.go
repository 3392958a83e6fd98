package streams

import (
	"encoding/json"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// admit asks webhooks and policies about a connection. They see the options as upstream
// shows them, an object of this kind, and may change them.
func (h *handler) admit(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, kind string, options any) error {
	if h.Admit == nil {
		return nil
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(options)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("show webhooks the options of a connection: %w", err))
	}
	delete(object, "metadata")
	object["apiVersion"], object["kind"] = "v1", kind
	changed, err := h.Admit(w, r, &admissionhooks.Request{
		Operation: admission.Connect,
		Resource:  schema.GroupVersionResource{Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource}, Subresource: info.Subresource,
		Kind:      corev1.SchemeGroupVersion.WithKind(kind),
		Namespace: info.Namespace, Name: info.Name, Object: object,
	})
	if err != nil || changed == nil {
		return err
	}
	encoded, err := json.Marshal(changed)
	if err == nil {
		err = json.Unmarshal(encoded, options)
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read the options of a connection that a webhook changed: %w", err))
	}
	return nil
}

// admitProxy is admit for what leads to path.
func (h *handler) admitProxy(w http.ResponseWriter, r *http.Request, info *request.RequestInfo, kind string) error {
	options := &corev1.PodProxyOptions{Path: subpath(info)}
	asked := *options
	if err := h.admit(w, r, info, kind, options); err != nil {
		return err
	}
	if options.Path != asked.Path {
		return apierrors.NewInternalError(fmt.Errorf("a webhook or a policy attempted to modify the path of a proxied request, which Keelson does not support"))
	}
	return nil
}
