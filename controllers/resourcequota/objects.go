package resourcequota

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/source"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/controllers/internal/quota"
)

// mapper is the part of a RESTMapper that is needed.
type mapper interface {
	KindsFor(resource schema.GroupVersionResource) ([]schema.GroupVersionKind, error)
}

// listObjects are the objects of every kind that the quota limits.
func (r *Reconciler) listObjects(ctx context.Context, q *keelsonv1.ResourceQuota) ([]quota.Object, error) {
	seen := map[schema.GroupResource]bool{}
	var objects []quota.Object
	for name := range q.Spec.Hard {
		kind, ok := quota.Kind(name)
		if !ok || seen[kind] {
			continue
		}
		seen[kind] = true
		found, err := r.list(ctx, q.Namespace, kind)
		if err != nil {
			return nil, fmt.Errorf("count %s: %w", kind, err)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

func (r *Reconciler) list(ctx context.Context, namespace string, kind schema.GroupResource) ([]quota.Object, error) {
	in, asIs := client.InNamespace(namespace), client.UnsafeDisableDeepCopy
	var objects []quota.Object
	switch kind {
	case quota.Pods:
		var list keelsonv1.PodList
		if err := r.client.List(ctx, &list, in, asIs); err != nil {
			return nil, err
		}
		for i := range list.Items {
			objects = append(objects, quota.Object{Resource: kind, Pod: &list.Items[i], Meta: &list.Items[i]})
		}
	case quota.Services:
		var list keelsonv1.ServiceList
		if err := r.client.List(ctx, &list, in, asIs); err != nil {
			return nil, err
		}
		for i := range list.Items {
			objects = append(objects, quota.Object{Resource: kind, Service: &list.Items[i], Meta: &list.Items[i]})
		}
	case quota.Claims:
		if err := r.watch(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), kind, &corev1.PersistentVolumeClaim{}); err != nil {
			return nil, err
		}
		var list corev1.PersistentVolumeClaimList
		if err := r.client.List(ctx, &list, in, asIs); err != nil {
			return nil, err
		}
		for i := range list.Items {
			objects = append(objects, quota.Object{Resource: kind, Claim: &list.Items[i], Meta: &list.Items[i]})
		}
	default:
		return r.listNumbered(ctx, in, kind)
	}
	return objects, nil
}

// listNumbered lists objects of which only the number counts. A kind that nobody serves
// has none.
func (r *Reconciler) listNumbered(ctx context.Context, in client.InNamespace, resource schema.GroupResource) ([]quota.Object, error) {
	kind, err := r.kindOf(resource)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	example := &metav1.PartialObjectMetadata{}
	example.SetGroupVersionKind(kind)
	if err := r.watch(kind, resource, example); err != nil {
		return nil, err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	if err := r.client.List(ctx, list, in, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	var objects []quota.Object
	for i := range list.Items {
		objects = append(objects, quota.Object{Resource: resource, Meta: &list.Items[i]})
	}
	return objects, nil
}

// kindOf is the kind that is stored for a resource that a quota names: Keelson's where
// there is one.
func (r *Reconciler) kindOf(resource schema.GroupResource) (schema.GroupVersionKind, error) {
	var failed error
	for _, group := range quota.StoredGroups(resource.Group) {
		kinds, err := r.kinds.KindsFor(schema.GroupVersionResource{Group: group, Resource: resource.Resource})
		if err == nil {
			for _, kind := range kinds {
				if kind.Group == group {
					return kind, nil
				}
			}
			continue
		}
		if !meta.IsNoMatchError(err) {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return schema.GroupVersionKind{}, failed
	}
	return schema.GroupVersionKind{}, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: resource.Group, Kind: resource.Resource}}
}

// watch lets objects of a kind wake their quotas from now on.
func (r *Reconciler) watch(kind schema.GroupVersionKind, resource schema.GroupResource, example client.Object) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.controller == nil || r.watched[kind] {
		return nil
	}
	if err := r.controller.Watch(source.Kind(r.cache, example, quotasOf(r.client, resource), useChanged())); err != nil {
		return fmt.Errorf("watch %s: %w", kind.Kind, err)
	}
	r.watched[kind] = true
	return nil
}
