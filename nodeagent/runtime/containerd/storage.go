package containerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var _ runtime.Storage = (*Runtime)(nil)

// Labels that other parts of the field put on images that must stay.
const (
	labelPinned      = "io.cri-containerd.pinned"
	labelPinnedValue = "pinned"
)

// Peek implements runtime.Storage.
func (r *Runtime) Peek(ctx context.Context) ([]runtime.PodState, error) {
	if err := r.ensureSynced(ctx); err != nil {
		return nil, err
	}
	return r.objects.all(), nil
}

// Images implements runtime.Storage.
func (r *Runtime) Images(ctx context.Context) ([]runtime.StoredImage, error) {
	names, err := r.client.ImageService().List(ctx)
	if err != nil {
		return nil, r.explain("list images", err)
	}
	byID := map[string]*runtime.StoredImage{}
	for _, name := range names {
		id, size, err := r.identify(ctx, name)
		if err != nil {
			return nil, err
		}
		known := byID[id]
		if known == nil {
			known = &runtime.StoredImage{ID: id, Size: size, CreatedAt: name.CreatedAt}
			byID[id] = known
		}
		addName(known, name)
	}
	stored := make([]runtime.StoredImage, 0, len(byID))
	for _, image := range byID {
		slices.Sort(image.Names)
		slices.Sort(image.Digests)
		image.Names, image.Digests = slices.Compact(image.Names), slices.Compact(image.Digests)
		stored = append(stored, *image)
	}
	slices.SortFunc(stored, func(a, b runtime.StoredImage) int { return strings.Compare(a.ID, b.ID) })
	return stored, nil
}

// addName gives an image one of its names.
func addName(to *runtime.StoredImage, name images.Image) {
	if !strings.Contains(name.Name, "@") {
		to.Names = append(to.Names, name.Name)
	}
	if repository := repositoryOf(name.Name); repository != "" {
		to.Digests = append(to.Digests, repository+"@"+name.Target.Digest.String())
	}
	if name.CreatedAt.Before(to.CreatedAt) {
		to.CreatedAt = name.CreatedAt
	}
	to.Pinned = to.Pinned || name.Labels[labelPinned] == labelPinnedValue
}

// identify returns the StoredImage.ID behind a name, and its size.
func (r *Runtime) identify(ctx context.Context, name images.Image) (string, int64, error) {
	image, err := r.describe(ctx, name.Name, name.Target)
	if errdefs.IsNotFound(err) { // a pull that did not end, or of another machine
		return name.Target.Digest.String(), 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	return image.ID, image.Size, nil
}

// RemoveImage implements runtime.Storage.
func (r *Runtime) RemoveImage(ctx context.Context, id string) error {
	names, err := r.client.ImageService().List(ctx)
	if err != nil {
		return r.explain("list images", err)
	}
	var mine []images.Image
	for _, name := range names {
		found, _, err := r.identify(ctx, name)
		if err != nil {
			return err
		}
		if found == id {
			mine = append(mine, name)
		}
	}
	var errs []error
	for i, name := range mine {
		var options []images.DeleteOpt
		if i == len(mine)-1 { // returns when the garbage is gone
			options = append(options, images.SynchronousDelete())
		}
		err := r.client.ImageService().Delete(ctx, name.Name, options...)
		errs = append(errs, r.ignoreGone("delete image "+name.Name, err))
		r.images.forgetContent(name.Target.Digest)
	}
	return errors.Join(errs...)
}

func (c *imageCache) forgetContent(target digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.content, target)
}

// ImageFolder implements runtime.Storage: the snapshotter says where it works.
func (r *Runtime) ImageFolder(ctx context.Context) (string, error) {
	answer, err := r.client.IntrospectionService().Plugins(ctx, "type==io.containerd.snapshotter.v1,id=="+r.options.Snapshotter)
	if err != nil {
		return "", r.explain("ask for the snapshotter "+r.options.Snapshotter, err)
	}
	i := slices.IndexFunc(answer.Plugins, func(p *introspection.Plugin) bool { return p.Exports["root"] != "" })
	if i < 0 {
		return "", fmt.Errorf("containerd does not say where its snapshotter %s works", r.options.Snapshotter)
	}
	return answer.Plugins[i].Exports["root"], nil
}

// ContainerUsage implements runtime.Storage.
func (r *Runtime) ContainerUsage(ctx context.Context, containerID string) (runtime.DiskUsage, error) {
	usage, err := r.client.SnapshotService(r.options.Snapshotter).Usage(ctx, containerID)
	if err := r.ignoreGone("measure the file system of container "+containerID, err); err != nil {
		return runtime.DiskUsage{}, err
	}
	return runtime.DiskUsage{Bytes: usage.Size, Inodes: usage.Inodes}, nil
}
