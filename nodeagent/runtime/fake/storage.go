package fake

import (
	"context"
	"maps"
	"slices"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

var _ runtime.Storage = (*Runtime)(nil)

// Peek implements runtime.Storage.
func (r *Runtime) Peek(ctx context.Context) ([]runtime.PodState, error) { return r.List(ctx) }

// Images implements runtime.Storage: the images that were pulled, each under its name.
func (r *Runtime) Images(context.Context) ([]runtime.StoredImage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var stored []runtime.StoredImage
	for _, name := range slices.Sorted(maps.Keys(r.images)) {
		image := r.images[name]
		stored = append(stored, runtime.StoredImage{ID: image.ID, Names: []string{name}, Digests: []string{image.Digest}, Size: image.Size})
	}
	return stored, nil
}

// RemoveImage implements runtime.Storage.
func (r *Runtime) RemoveImage(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.images, func(_ string, image runtime.Image) bool { return image.ID == id })
	return nil
}

// ImageFolder implements runtime.Storage.
func (r *Runtime) ImageFolder(context.Context) (string, error) { return "/", nil }

// ContainerUsage implements runtime.Storage: containers write nothing.
func (r *Runtime) ContainerUsage(context.Context, string) (runtime.DiskUsage, error) {
	return runtime.DiskUsage{}, nil
}

// ReopenLog implements runtime.Storage: containers have no output.
func (r *Runtime) ReopenLog(context.Context, string) error { return nil }
