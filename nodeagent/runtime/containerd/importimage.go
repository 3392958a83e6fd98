package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/platforms"
)

// errNoNames is for archives whose images nobody could ask for.
var errNoNames = errors.New("the archive holds no image with a name: save it by its name, such as 'docker save NAME:TAG'")

// ImportImages implements preload.Importer: it reads an archive as docker and
// containerd save them, compressed or not, and returns the names of its images once
// containers can use them. What is here already is not written again.
func (r *Runtime) ImportImages(ctx context.Context, archive io.Reader) ([]string, error) {
	plain, err := compression.DecompressStream(archive)
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer plain.Close()
	// One lease over both steps: nothing of a half unpacked image is collected.
	ctx, release, err := r.client.WithLease(ctx)
	if err != nil {
		return nil, r.explain("make a lease", err)
	}
	defer func() { _ = release(context.WithoutCancel(ctx)) }() // else it expires
	found, err := r.client.Import(ctx, plain, client.WithImportPlatform(platforms.Default()), client.WithSkipMissing())
	if err != nil {
		return nil, r.explain("read the archive", err)
	}
	if len(found) == 0 {
		return nil, errNoNames
	}
	names := make([]string, 0, len(found))
	for _, image := range found {
		name, err := r.settleImport(ctx, image)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// settleImport unpacks an image and gives it the name under which Pods find it.
func (r *Runtime) settleImport(ctx context.Context, image images.Image) (string, error) {
	name, err := normalise(image.Name)
	if err != nil {
		return "", err
	}
	if name != image.Name {
		store := r.client.ImageService()
		full := images.Image{Name: name, Target: image.Target, Labels: image.Labels}
		if _, err := store.Update(ctx, full, "target"); err != nil {
			if _, err = store.Create(ctx, full); err != nil {
				return "", r.explain("name image "+name, err)
			}
		}
		if err := r.ignoreGone("delete the short name "+image.Name, store.Delete(ctx, image.Name)); err != nil {
			return "", err
		}
	}
	if err := client.NewImage(r.client, image).Unpack(ctx, r.options.Snapshotter); err != nil {
		return "", r.explain("unpack image "+name, err)
	}
	r.images.forgetContent(image.Target.Digest)
	return name, nil
}
