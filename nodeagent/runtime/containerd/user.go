package containerd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// userOf resolves the user that an image names, with the groups that the image's own
// /etc/passwd and /etc/group give. The answer depends on the image alone, so it is
// remembered.
func (r *Runtime) userOf(ctx context.Context, image *localImage) (_ specs.User, err error) {
	if user, ok := r.images.user(image.ID); ok {
		return user, nil
	}
	r.images.resolving.Lock() // one view of an image at a time
	defer r.images.resolving.Unlock()
	if user, ok := r.images.user(image.ID); ok {
		return user, nil
	}
	name := image.User
	if name == "" {
		name = "root"
	}
	ctx, release, err := r.client.WithLease(ctx)
	if err != nil {
		return specs.User{}, r.explain("take a lease", err)
	}
	defer func() { err = errors.Join(err, release(context.WithoutCancel(ctx))) }()
	snapshotter := r.client.SnapshotService(r.options.Snapshotter)
	key := "keelson-user-" + image.ID
	if _, err := snapshotter.View(ctx, key, image.chainID); err != nil && !errdefs.IsAlreadyExists(err) {
		return specs.User{}, r.explain("view the file system of image "+image.Ref, err)
	}
	user, err := readUser(ctx, r.client, r.options.Snapshotter, key, name)
	if err != nil {
		return specs.User{}, fmt.Errorf("find user %q of image %s: %w", name, image.Ref, err)
	}
	if err := snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return specs.User{}, r.explain("remove the view of image "+image.Ref, err)
	}
	r.images.rememberUser(image.ID, user)
	return user, nil
}

func readUser(ctx context.Context, c *client.Client, snapshotter, key, name string) (specs.User, error) {
	scratch := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{}, Root: &specs.Root{}}
	container := &containers.Container{ID: key, Snapshotter: snapshotter, SnapshotKey: key}
	if name == "root" || name == "0" { // needs no entry in /etc/passwd
		err := oci.WithAdditionalGIDs("root")(ctx, c, container, scratch)
		return scratch.Process.User, err
	}
	if err := oci.WithUser(name)(ctx, c, container, scratch); err != nil {
		return specs.User{}, err
	}
	user := scratch.Process.User
	uid, _, _ := strings.Cut(name, ":")
	if err := oci.WithAdditionalGIDs(uid)(ctx, c, container, scratch); err != nil {
		return specs.User{}, err
	}
	user.AdditionalGids = scratch.Process.User.AdditionalGids
	return user, nil
}
