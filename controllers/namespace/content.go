package namespace

import (
	"context"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

// listChunk bounds one answer of the API server.
const listChunk = 500

// planOrder splits the resources of a namespace into those that go first and the
// rest: Pods may need what else is there until they have ended.
func planOrder(all []resources.Resource) (first, rest []resources.Resource) {
	for _, r := range all {
		switch {
		case !r.Namespaced || !r.Supports("list", "delete"):
		case r.Kind == "Pod" && r.Resource == "pods":
			first = append(first, r)
		default:
			rest = append(rest, r)
		}
	}
	return first, rest
}

// deleteContent deletes what is in the namespace, Pods first: the rest waits until
// no Pod is left.
func (r *Reconciler) deleteContent(ctx context.Context, namespace string) content {
	found := content{objects: map[string]int{}, finalizers: map[string]int{}}
	all, undiscovered, err := resources.Discover(ctx, r.server)
	if err != nil {
		found.discovery = err
		return found
	}
	found.undiscovered = undiscovered
	first, rest := planOrder(all)
	r.deleteAll(ctx, namespace, first, &found)
	if found.remaining() == 0 && len(found.deletion) == 0 {
		r.deleteAll(ctx, namespace, rest, &found)
	}
	return found
}

func (r *Reconciler) deleteAll(ctx context.Context, namespace string, of []resources.Resource, found *content) {
	for _, resource := range of {
		if err := r.deleteResource(ctx, namespace, resource, found); err != nil {
			found.deletion = append(found.deletion, err)
		}
	}
}

// deleteResource deletes all objects of one resource and counts what remains.
func (r *Reconciler) deleteResource(ctx context.Context, namespace string, resource resources.Resource, found *content) error {
	left, err := r.list(ctx, namespace, resource)
	if err != nil {
		return err
	}
	// What waits for a finalizer is not deleted again at every look.
	if slices.ContainsFunc(left, stays) {
		if err := r.deleteObjects(ctx, namespace, resource, left); err != nil {
			return err
		}
		if left, err = r.list(ctx, namespace, resource); err != nil {
			return err
		}
	}
	for _, object := range left {
		found.objects[name(resource)]++
		for _, finalizer := range object.Finalizers {
			found.finalizers[finalizer]++
		}
	}
	return nil
}

func (r *Reconciler) deleteObjects(ctx context.Context, namespace string, resource resources.Resource, objects []metav1.PartialObjectMetadata) error {
	at := r.metadata.Resource(resource.GroupVersionResource).Namespace(namespace)
	options := metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}
	if resource.Supports("deletecollection") {
		if err := at.DeleteCollection(ctx, options, metav1.ListOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete all %s: %w", name(resource), err)
		}
		return nil
	}
	for _, object := range objects {
		if !stays(object) {
			continue
		}
		if err := at.Delete(ctx, object.Name, options); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s %s: %w", name(resource), object.Name, err)
		}
	}
	return nil
}

// stays tells whether nobody has deleted the object yet.
func stays(object metav1.PartialObjectMetadata) bool { return object.DeletionTimestamp == nil }

func (r *Reconciler) list(ctx context.Context, namespace string, resource resources.Resource) ([]metav1.PartialObjectMetadata, error) {
	at := r.metadata.Resource(resource.GroupVersionResource).Namespace(namespace)
	var all []metav1.PartialObjectMetadata
	options := metav1.ListOptions{Limit: listChunk}
	for {
		page, err := at.List(ctx, options)
		if apierrors.IsMethodNotSupported(err) {
			return nil, nil
		}
		// A 404 is an error too: the kind may be going, or its server may be starting.
		// The next round asks again what there is.
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", name(resource), err)
		}
		all = append(all, page.Items...)
		if page.Continue == "" {
			return all, nil
		}
		options.Continue = page.Continue
	}
}

// name is how upstream's conditions call a resource: "pods.core.keelson.dev", and
// "pods." for the core group.
func name(r resources.Resource) string { return r.Resource + "." + r.Group }
