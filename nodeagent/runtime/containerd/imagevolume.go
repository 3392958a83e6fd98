package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	tasktypes "github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"k8s.io/apimachinery/pkg/types"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// Labels of the views of images that Pods have as volumes.
const (
	labelGCRoot = "containerd.io/gc.root"
	// labelVolumeImage names the image, as runtime.StoredImage.ID.
	labelVolumeImage = "keelson.dev/volume-image"
)

// imageVolumeKey names the view of an image that a Pod has as a volume.
func imageVolumeKey(pod types.UID, volume string) string {
	return "keelson-volume-" + string(pod) + "-" + volume
}

// MountImage implements volumes.Images. The view is made before the mount and protects
// the image's files from containerd's collector, whatever becomes of the image's name. The
// files have the IDs of the Pod's user namespace, if its sandbox has one: a mount of several
// layers could not be mapped later.
func (r *Runtime) MountImage(ctx context.Context, pod types.UID, volume, ref, dir string) error {
	image, err := r.lookup(ctx, ref)
	if err != nil {
		return err
	}
	if image == nil {
		return fmt.Errorf("mount image %q as volume %s: it is not on this machine", ref, volume)
	}
	snapshotter := r.client.SnapshotService(r.options.Snapshotter)
	key := imageVolumeKey(pod, volume)
	labels := snapshots.WithLabels(map[string]string{
		labelGCRoot: r.options.Clock.Now().UTC().Format("2006-01-02T15:04:05Z"), labelVolumeImage: image.ID,
	})
	mounts, err := snapshotter.View(ctx, key, image.chainID, labels)
	if errdefs.IsAlreadyExists(native(err)) { // of a start that was interrupted before the mount
		if err = snapshotter.Remove(ctx, key); err == nil || errdefs.IsNotFound(native(err)) {
			mounts, err = snapshotter.View(ctx, key, image.chainID, labels)
		}
	}
	if err != nil {
		r.images.forget()
		return r.explain("view the files of image "+image.Ref, err)
	}
	mountLabel := r.objects.mountLabelOf(pod)
	for i := range mounts { // as upstream documents image volumes
		mounts[i].Options = append(slices.Clone(mounts[i].Options), "noexec")
		if mountLabel != "" && mounts[i].Type != "bind" {
			mounts[i].Options = append(mounts[i].Options, contextOption(mountLabel))
		}
	}
	if users := r.objects.usersOf(pod); users != "" {
		err = r.mountMapped(mounts, dir, r.mappedDir(key), users)
	} else {
		err = mount.All(mounts, dir)
	}
	if err != nil {
		return fmt.Errorf("mount image %s at %s: %w", image.Ref, dir, err)
	}
	return nil
}

// mountMapped mounts an image at dir with the IDs of a user namespace. What it mounts in the
// folder scratch is of use only until it returns, and is swept at the next start.
func (r *Runtime) mountMapped(mounts []mount.Mount, dir, scratch, namespace string) (err error) {
	defer func() { err = errors.Join(err, userns.UnbindAll(scratch)) }()
	for _, m := range mountsOf(mounts) {
		of, err := planRootfs(m, filepath.Join(scratch, "l"))
		if err != nil {
			return err
		}
		if len(of.layers) == 0 { // one layer
			if err := r.bindLayer(m, dir, filepath.Join(scratch, "whole"), namespace); err != nil {
				return err
			}
			continue
		}
		if err := of.bindLayers(namespace); err != nil {
			return err
		}
		overlay := mount.Mount{Type: of.mount.Type, Source: of.mount.Source, Options: of.mount.Options}
		if err := overlay.Mount(dir); err != nil {
			return err
		}
	}
	return nil
}

// bindLayer mounts a single layer at dir with its options, which hold for the mount that is
// mapped, too.
func (r *Runtime) bindLayer(m *tasktypes.Mount, dir, whole, namespace string) error {
	if err := os.MkdirAll(whole, 0o700); err != nil {
		return err
	}
	layer := mount.Mount{Type: m.Type, Source: m.Source, Options: m.Options}
	if err := layer.Mount(whole); err != nil {
		return err
	}
	return userns.Bind(whole, dir, namespace)
}

// ReleaseImage implements volumes.Images.
func (r *Runtime) ReleaseImage(ctx context.Context, pod types.UID, volume string) error {
	err := r.client.SnapshotService(r.options.Snapshotter).Remove(ctx, imageVolumeKey(pod, volume))
	return r.ignoreGone("remove the view of the image of volume "+volume, err)
}

// ImagesOfVolumes lists the images that Pods have as volumes, by runtime.StoredImage.ID:
// they are in use.
func (r *Runtime) ImagesOfVolumes(ctx context.Context) ([]string, error) {
	var ids []string
	err := r.client.SnapshotService(r.options.Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		ids = append(ids, info.Labels[labelVolumeImage])
		return nil
	}, fmt.Sprintf("labels.%q", labelVolumeImage))
	if err = native(err); err != nil && !errdefs.IsNotFound(err) {
		return nil, r.explain("list the images of volumes", err)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
