package resources

import (
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"github.com/keelson-dev/keelson/internal/admissionhooks"
)

// admitCreate asks webhooks and policies about an object that is created in a subresource
// of a Pod and stored nowhere. They may change it.
func (c *call) admitCreate(kind schema.GroupVersionKind, subresource, name string, object runtime.Object) error {
	if c.admit == nil {
		return nil
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("show webhooks a %s: %w", kind.Kind, err))
	}
	tree["apiVersion"], tree["kind"] = kind.GroupVersion().String(), kind.Kind
	changed, err := c.admit(c.w, c.r, &admissionhooks.Request{
		Operation: admission.Create, Resource: c.row.Upstream, Subresource: subresource, Kind: kind,
		Namespace: c.namespace, Name: name, Object: tree,
		Options: map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
		DryRun:  slices.Contains(c.r.URL.Query()["dryRun"], metav1.DryRunAll),
	})
	if err != nil || changed == nil {
		return err
	}
	encoded, err := json.Marshal(changed)
	if err == nil {
		err = json.Unmarshal(encoded, object)
	}
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("read a %s that a webhook changed: %w", kind.Kind, err))
	}
	return nil
}
