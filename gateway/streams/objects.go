package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/gateway/upstream"
)

// maxErrorBody bounds what is read of an answer that tells of a failure.
const maxErrorBody = 50000

// read decodes one object of ours into object, in the gateway's name: who may see the
// logs of a Pod need not be able to read the Pod.
func (h *handler) read(ctx context.Context, resource, namespace, name string, object any) error {
	if name == "" {
		return apierrors.NewBadRequest("Name parameter required.")
	}
	if len(content.IsPathSegmentName(name)) > 0 {
		return apierrors.NewNotFound(corev1.Resource(resource), name)
	}
	response, err := h.Upstream.Do(upstream.AsGateway(ctx), upstream.Request{
		Method: http.MethodGet,
		Path:   "/apis/" + keelsonv1.GroupVersion.String() + "/namespaces/" + url.PathEscape(namespace) + "/" + resource + "/" + url.PathEscape(name),
		Header: http.Header{"Accept": {"application/json"}},
	})
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read %s %s/%s: %w", resource, namespace, name, err))
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return apierrors.NewNotFound(corev1.Resource(resource), name)
	default:
		return apierrors.NewInternalError(fmt.Errorf("read %s %s/%s: %s", resource, namespace, name, upstream.Refusal(response)))
	}
	if err := json.NewDecoder(response.Body).Decode(object); err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read %s %s/%s: decode the API server's answer: %w", resource, namespace, name, err))
	}
	return nil
}

func (h *handler) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod := &keelsonv1.Pod{}
	if err := h.read(ctx, "pods", namespace, name, pod); err != nil {
		return nil, err
	}
	return pod.Upstream(), nil
}
