package containerd

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// RemoveNamespace removes images, their layers and all else that the containerd
// namespace holds, and the namespace. It refuses while a sandbox or a container is
// there, and succeeds when there is no namespace. Other namespaces keep what they
// share with it.
func (r *Runtime) RemoveNamespace(ctx context.Context) error {
	pods, err := r.List(ctx)
	if err != nil {
		return err
	}
	if len(pods) > 0 {
		return fmt.Errorf("containerd namespace %s still holds %d Pods, the first is %s/%s: remove them before", r.options.Namespace, len(pods), pods[0].Namespace, pods[0].Name)
	}
	defer r.images.forget()
	if err := errors.Join(r.removeImages(ctx), r.removeLeases(ctx)); err != nil {
		return err
	}
	// A synchronous deletion, even of nothing else, returns when the garbage is gone.
	if err := r.collectGarbage(ctx); err != nil {
		return err
	}
	if err := errors.Join(r.removeSnapshots(ctx), r.removeContent(ctx)); err != nil {
		return err
	}
	if err := r.client.NamespaceService().Delete(ctx, r.options.Namespace); err != nil && !errdefs.IsNotFound(native(err)) {
		return r.explain("delete namespace "+r.options.Namespace, err)
	}
	return nil
}

func (r *Runtime) removeImages(ctx context.Context) error {
	all, err := r.client.ImageService().List(ctx)
	if err != nil {
		return r.explain("list images", err)
	}
	var errs []error
	for _, image := range all {
		errs = append(errs, r.ignoreGone("delete image "+image.Name, r.client.ImageService().Delete(ctx, image.Name)))
	}
	return errors.Join(errs...)
}

func (r *Runtime) removeLeases(ctx context.Context) error {
	all, err := r.client.LeasesService().List(ctx)
	if err != nil {
		return r.explain("list leases", err)
	}
	var errs []error
	for _, lease := range all {
		errs = append(errs, r.ignoreGone("delete lease "+lease.ID, r.client.LeasesService().Delete(ctx, lease)))
	}
	return errors.Join(errs...)
}

func (r *Runtime) collectGarbage(ctx context.Context) error {
	lease, err := r.client.LeasesService().Create(ctx, leases.WithID("keelson-cleanup"))
	if errdefs.IsAlreadyExists(native(err)) { // of a cleanup that was killed
		lease, err = leases.Lease{ID: "keelson-cleanup"}, nil
	}
	if err != nil {
		return r.explain("collect garbage", err)
	}
	return r.ignoreGone("collect garbage", r.client.LeasesService().Delete(ctx, lease, leases.SynchronousDelete))
}

// removeSnapshots removes what the collection left because somebody protects it; a
// layer can only go after those above it.
func (r *Runtime) removeSnapshots(ctx context.Context) error {
	service := r.client.SnapshotService(r.options.Snapshotter)
	above := map[string][]string{}
	err := service.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		above[info.Parent] = append(above[info.Parent], info.Name)
		return nil
	})
	if err != nil && !errdefs.IsNotFound(native(err)) {
		return r.explain("list snapshots", err)
	}
	var errs []error
	var remove func(names []string)
	remove = func(names []string) {
		for _, name := range names {
			remove(above[name])
			errs = append(errs, r.ignoreGone("remove snapshot "+name, service.Remove(ctx, name)))
		}
	}
	remove(above[""])
	return errors.Join(errs...)
}

// removeContent removes blobs that somebody protects and downloads that did not end.
func (r *Runtime) removeContent(ctx context.Context) error {
	store := r.client.ContentStore()
	var errs []error
	var blobs []content.Info
	err := store.Walk(ctx, func(info content.Info) error {
		blobs = append(blobs, info)
		return nil
	})
	if err != nil {
		errs = append(errs, r.explain("list content", err))
	}
	for _, blob := range blobs {
		errs = append(errs, r.ignoreGone("delete content "+blob.Digest.String(), store.Delete(ctx, blob.Digest)))
	}
	downloads, err := store.ListStatuses(ctx)
	if err != nil {
		errs = append(errs, r.explain("list downloads", err))
	}
	for _, download := range downloads {
		errs = append(errs, r.ignoreGone("abort download "+download.Ref, store.Abort(ctx, download.Ref)))
	}
	return errors.Join(errs...)
}

func (r *Runtime) ignoreGone(tried string, err error) error {
	if err == nil || errdefs.IsNotFound(native(err)) {
		return nil
	}
	return r.explain(tried, err)
}
