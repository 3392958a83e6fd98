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
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	appsv1 "github.com/keelson-dev/keelson/apis/apps/v1"
	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// storedGroup is where Keelson stores the kinds of a group: manifests that were written
// for the plain API may name either.
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
		scale, err := r.getScale(ctx, object)
		if apierrors.IsNotFound(err) {
			// By the group that the autoscaler's author knows.
			err = apierrors.NewNotFound(schema.GroupResource{Group: version.Group, Resource: mapping.Resource.Resource}, ref.Name)
		}
		if err != nil {
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
		if err = r.updateScale(ctx, f); !apierrors.IsConflict(err) {
			return err
		}
		latest, again := r.getScale(ctx, f.object)
		if again != nil {
			return again
		}
		f.scale = latest
	}
	return err
}

// getScale reads the scale of an object of any kind. The client takes an untyped scale
// for an untyped object alone.
func (r *Reconciler) getScale(ctx context.Context, object *unstructured.Unstructured) (*autoscalingv1.Scale, error) {
	untyped := &unstructured.Unstructured{}
	untyped.SetGroupVersionKind(scaleKind())
	if err := r.client.SubResource("scale").Get(ctx, object, untyped); err != nil {
		return nil, err
	}
	scale := &autoscalingv1.Scale{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(untyped.Object, scale); err != nil {
		return nil, fmt.Errorf("read the scale of %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return scale, nil
}

func (r *Reconciler) updateScale(ctx context.Context, f *found) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(f.scale)
	if err != nil {
		return fmt.Errorf("write the scale of %s %s: %w", f.object.GetKind(), f.object.GetName(), err)
	}
	body := &unstructured.Unstructured{Object: content}
	body.SetGroupVersionKind(scaleKind())
	// The client would look for the version that was written in the object, which has none.
	// Scales are never read from a cache, so there is nothing to wait for either.
	return r.client.SubResource("scale").Update(ctx, f.object.DeepCopy(), client.WithSubResourceBody(body), client.DisableReadYourWritesConsistency)
}

func scaleKind() schema.GroupVersionKind { return autoscalingv1.SchemeGroupVersion.WithKind("Scale") }
