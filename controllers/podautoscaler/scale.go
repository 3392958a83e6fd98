package podautoscaler

import (
	"context"
	"errors"
	"fmt"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	upstreamautoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// storedGroups are the groups whose kinds Keelson stores under another name: manifests
// that were written for the plain API may name either.
func storedGroup(group string) string {
	switch group {
	case "":
		return keelsonv1.GroupVersion.Group
	case "apps":
		return appsv1.GroupName
	}
	return group
}

// found is a scale and the object that it is of.
type found struct {
	object *unstructured.Unstructured
	scale  *autoscalingv1.Scale
}

// readScale finds what the reference names. The version in it does not matter: each
// that the API server has of the kind is tried, as upstream does.
func (r *Reconciler) readScale(ctx context.Context, namespace string, ref upstreamautoscalingv2.CrossVersionObjectReference) (*found, error) {
	version, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil, err
	}
	mappings, err := r.client.RESTMapper().RESTMappings(schema.GroupKind{Group: storedGroup(version.Group), Kind: ref.Kind})
	if err != nil {
		return nil, err
	}
	var first error
	for _, mapping := range mappings {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(mapping.GroupVersionKind)
		object.SetName(ref.Name)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			object.SetNamespace(namespace)
		} else {
			first = errors.Join(first, fmt.Errorf("%s is not in a namespace: an autoscaler scales what is in its own", mapping.Resource.Resource))
			continue
		}
		scale := &autoscalingv1.Scale{}
		if err := r.client.SubResource("scale").Get(ctx, object, scale); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		return &found{object: object, scale: scale}, nil
	}
	if first == nil {
		first = errors.New("unrecognized resource")
	}
	return nil, first
}

// maxConflicts is how often a scale is written again that somebody else has changed
// since it was read; upstream's number.
const maxConflicts = 5

// writeScale sets the number of replicas, whatever else of the object has changed since.
func (r *Reconciler) writeScale(ctx context.Context, f *found, replicas int32) error {
	var err error
	for range maxConflicts {
		f.scale.Spec.Replicas = replicas
		if err = r.client.SubResource("scale").Update(ctx, f.object.DeepCopy(), withScale(f.scale)); !apierrors.IsConflict(err) {
			return err
		}
		latest := &autoscalingv1.Scale{}
		if again := r.client.SubResource("scale").Get(ctx, f.object, latest); again != nil {
			return again
		}
		f.scale = latest
	}
	return err
}
