package garbagecollector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/controllers/internal/resources"
)

// isRace tells whether somebody else wrote the object meanwhile: it is judged again.
func isRace(err error) bool { return apierrors.IsConflict(err) }

// isGone tells whether the API server says that it has no such object. A server that
// does not serve the path (a kind that is being taken away, an aggregated API that
// has no registration for a moment) answers 404 too, and says nothing about objects.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// collect judges one object and acts.
func (c *collector) collect(ctx context.Context, uid types.UID) error {
	v, known := c.graph.view(uid)
	if !known {
		return nil
	}
	switch o := v.object; {
	case o.deleting && o.orphan:
		return c.orphan(ctx, v)
	case o.deletingDependents():
		return c.finishForeground(ctx, v)
	case o.deleting || !v.needsLook:
		return nil
	}
	live, err := c.read(ctx, v.object)
	if err != nil || live == nil || live.DeletionTimestamp != nil {
		return err
	}
	owners, err := c.judgeOwners(ctx, v.object, live.OwnerReferences)
	if err != nil {
		return err
	}
	return c.apply(ctx, v.object, live, planDependent(live, owners, v.dependents))
}

// apply carries out a plan.
func (c *collector) apply(ctx context.Context, o *object, live *metav1.PartialObjectMetadata, a action) error {
	logger := klog.FromContext(ctx).WithValues("resource", o.resource.GroupResource().String(), "object", klog.KRef(o.namespace, o.name))
	if len(a.dropOwners) > 0 {
		if err := c.patchOwners(ctx, o, live, withoutOwners(live.OwnerReferences, a.dropOwners)); err != nil {
			return fmt.Errorf("drop owners of %s: %w", describe(o), err)
		}
		logger.Info("Dropped owner references", "reason", a.reason, "owners", a.dropOwners)
		return nil
	}
	if a.unblock {
		if err := c.patchOwners(ctx, o, live, unblocked(live.OwnerReferences)); err != nil {
			return fmt.Errorf("break the cycle at %s: %w", describe(o), err)
		}
	}
	if a.delete == "" {
		return nil
	}
	options := metav1.DeleteOptions{
		PropagationPolicy: &a.delete,
		Preconditions:     &metav1.Preconditions{UID: &o.uid, ResourceVersion: &live.ResourceVersion},
	}
	if err := c.at(o.resource, o.namespace).Delete(ctx, o.name, options); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete %s: %w", describe(o), err)
	}
	logger.Info("Deleted", "reason", a.reason, "propagation", a.delete)
	return nil
}

// finishForeground lets an object go when nothing blocks it any more; else it has
// its dependents looked at.
func (c *collector) finishForeground(ctx context.Context, v view) error {
	waiting := blocking(v.object.uid, v.dependents)
	if len(waiting) == 0 {
		return c.dropFinalizer(ctx, v.object, metav1.FinalizerDeleteDependents)
	}
	for _, dependent := range waiting {
		if !dependent.deleting {
			c.queue.Add(dependent.uid)
		}
	}
	return nil
}

// orphan takes the object's reference off its dependents, then lets it go. It must
// know all dependents: one that turns up later would be collected.
func (c *collector) orphan(ctx context.Context, v view) error {
	if unlisted := c.unlisted(); len(unlisted) > 0 {
		return fmt.Errorf("orphan the dependents of %s: waiting for the list of %s", describe(v.object), strings.Join(unlisted, ", "))
	}
	var errs []error
	for _, dependent := range v.dependents {
		live, err := c.read(ctx, dependent)
		if err == nil && live != nil {
			kept := withoutOwners(live.OwnerReferences, []types.UID{v.object.uid})
			if len(kept) < len(live.OwnerReferences) {
				err = c.patchOwners(ctx, dependent, live, kept)
			}
		}
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("orphan %s: %w", describe(dependent), err))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return c.dropFinalizer(ctx, v.object, metav1.FinalizerOrphanDependents)
}

// dropFinalizer takes one finalizer off the live object.
func (c *collector) dropFinalizer(ctx context.Context, o *object, finalizer string) error {
	live, err := c.read(ctx, o)
	if err != nil || live == nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(live.Finalizers), func(f string) bool { return f == finalizer })
	if len(kept) == len(live.Finalizers) {
		return nil
	}
	if err := c.patch(ctx, o, live, map[string]any{"finalizers": kept}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("take finalizer %s off %s: %w", finalizer, describe(o), err)
	}
	return nil
}

func (c *collector) patchOwners(ctx context.Context, o *object, live *metav1.PartialObjectMetadata, owners []metav1.OwnerReference) error {
	return c.patch(ctx, o, live, map[string]any{"ownerReferences": owners})
}

// patch writes metadata of the object as it was read; live gets the new version.
func (c *collector) patch(ctx context.Context, o *object, live *metav1.PartialObjectMetadata, change map[string]any) error {
	change["uid"] = live.UID
	change["resourceVersion"] = live.ResourceVersion
	body, err := json.Marshal(map[string]any{"metadata": change})
	if err != nil {
		return fmt.Errorf("encode the patch: %w", err)
	}
	written, err := c.at(o.resource, o.namespace).Patch(ctx, o.name, types.MergePatchType, body, metav1.PatchOptions{})
	if err != nil {
		return err
	}
	*live = *written
	return nil
}

// read returns the live object, or nil when it is gone or another one has its name:
// the watch will say so too.
func (c *collector) read(ctx context.Context, o *object) (*metav1.PartialObjectMetadata, error) {
	live, err := c.at(o.resource, o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", describe(o), err)
	}
	if live.UID != o.uid {
		return nil, nil
	}
	return live, nil
}

// judgeOwners finds out about each owner, live where the graph does not know it.
func (c *collector) judgeOwners(ctx context.Context, o *object, refs []metav1.OwnerReference) ([]ownerState, error) {
	states := make([]ownerState, len(refs))
	for i, ref := range refs {
		state, err := c.judgeOwner(ctx, o, ref)
		if err != nil {
			return nil, fmt.Errorf("find owner %s %s of %s: %w", ref.Kind, ref.Name, describe(o), err)
		}
		states[i] = state
	}
	return states, nil
}

func (c *collector) judgeOwner(ctx context.Context, o *object, ref metav1.OwnerReference) (ownerState, error) {
	if owner, known := c.graph.owner(ref, o); known {
		if owner.deletingDependents() {
			return awaiting, nil
		}
		return solid, nil
	}
	c.reportNamespace(o, ref)
	resource, err := c.resourceOf(ref)
	if err != nil {
		return solid, err
	}
	if resource.Namespaced && o.namespace == "" {
		// Nobody can say which namespace is meant: never collected, as upstream.
		return solid, nil
	}
	namespace := ""
	if resource.Namespaced {
		namespace = o.namespace
	}
	key := ownerKey{resource.GroupResource(), namespace, ref.Name, ref.UID}
	if c.absent.has(key) {
		return absent, nil
	}
	live, err := c.at(&resource, namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	switch {
	case isGone(err), err == nil && live.UID != ref.UID:
		c.absent.add(key)
		return absent, nil
	case err != nil:
		return solid, err
	case live.DeletionTimestamp != nil && slices.Contains(live.Finalizers, metav1.FinalizerDeleteDependents):
		return awaiting, nil
	}
	return solid, nil
}

func (c *collector) resourceOf(ref metav1.OwnerReference) (resources.Resource, error) {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return resources.Resource{}, fmt.Errorf("parse apiVersion %q: %w", ref.APIVersion, err)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	resource, known := c.kinds[schema.GroupKind{Group: gv.Group, Kind: ref.Kind}]
	if !known {
		// Never taken for absent: the kind may come back with its objects.
		return resources.Resource{}, fmt.Errorf("the API server serves no kind %s in group %q", ref.Kind, gv.Group)
	}
	return resource, nil
}

func (c *collector) at(resource *resources.Resource, namespace string) metadata.ResourceInterface {
	objects := c.client.Resource(resource.GroupVersionResource)
	if resource.Namespaced {
		return objects.Namespace(namespace)
	}
	return objects
}

func describe(o *object) string {
	return fmt.Sprintf("%s %s", o.resource.GroupResource(), klog.KRef(o.namespace, o.name))
}
