package containerd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// userOf resolves as whom a container runs: the Pod's choice, else the image's, with the
// groups that the image's own /etc/passwd and /etc/group give.
func (r *Runtime) userOf(ctx context.Context, image *localImage, s runtime.Security) (specs.User, error) {
	user, err := r.lookupUser(ctx, image, userName(image.User, s))
	if err != nil {
		return specs.User{}, err
	}
	groups := user.AdditionalGids
	if s.StrictGroups {
		groups = []uint32{user.GID}
	}
	user.AdditionalGids = nil
	for _, gid := range groups {
		user.AdditionalGids = appendGroup(user.AdditionalGids, gid)
	}
	for _, gid := range s.SupplementalGroups {
		user.AdditionalGids = appendGroup(user.AdditionalGids, uint32(gid))
	}
	return user, nil
}

func numbersOf(user specs.User) *runtime.User {
	numbers := &runtime.User{UID: int64(user.UID), GID: int64(user.GID)}
	for _, gid := range user.AdditionalGids {
		numbers.Groups = append(numbers.Groups, int64(gid))
	}
	return numbers
}

func appendGroup(groups []uint32, gid uint32) []uint32 {
	if slices.Contains(groups, gid) {
		return groups
	}
	return append(groups, gid)
}

// userName is what a container's user follows from, as USER of an image: a name or
// number, and a group where one is named.
func userName(image string, s runtime.Security) string {
	name := image
	if name == "" {
		name = "root"
	}
	if s.RunAsUser != nil {
		name = strconv.FormatInt(*s.RunAsUser, 10)
	}
	if s.RunAsGroup == nil {
		return name
	}
	name, _, _ = strings.Cut(name, ":")
	if name == "root" {
		name = "0" // which needs no entry in /etc/passwd
	}
	return name + ":" + strconv.FormatInt(*s.RunAsGroup, 10)
}

// lookupUser resolves a user name in an image. The answer depends on the two alone, so
// it is remembered.
func (r *Runtime) lookupUser(ctx context.Context, image *localImage, name string) (_ specs.User, err error) {
	cached := userKey{image.ID, name}
	if user, ok := r.images.user(cached); ok {
		return user, nil
	}
	r.images.resolving.Lock() // one view of an image at a time
	defer r.images.resolving.Unlock()
	if user, ok := r.images.user(cached); ok {
		return user, nil
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
	var user specs.User
	err = r.viewImage(ctx, key, func(root string) (err error) {
		user, err = findUser(root, name)
		return err
	})
	if err != nil {
		return specs.User{}, fmt.Errorf("find user %q of image %s: %w", name, image.Ref, err)
	}
	if err := snapshotter.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		return specs.User{}, r.explain("remove the view of image "+image.Ref, err)
	}
	r.images.rememberUser(cached, user)
	return user, nil
}
