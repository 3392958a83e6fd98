package containerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	passwd "github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

// viewImage calls f with the folder of an image's files, mounted for reading while it runs.
// What a crash leaves mounted goes with the next start.
func (r *Runtime) viewImage(ctx context.Context, key string, f func(root string) error) (err error) {
	mounts, err := r.client.SnapshotService(r.options.Snapshotter).Mounts(ctx, key)
	if err != nil {
		return err
	}
	dir := r.mappedDir(key)
	root := filepath.Join(dir, "root")
	if err := userns.UnbindAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	defer func() { err = errors.Join(err, userns.UnbindAll(dir)) }()
	for i := range mounts {
		mounts[i].Options = append(slices.Clone(mounts[i].Options), "ro")
	}
	if err := mount.All(mounts, root); err != nil {
		return err
	}
	return f(root)
}

// findUser resolves a user as USER of an image names it, by the files of the image at root,
// with upstream's errors. The groups are those that /etc/group gives, the user's own first.
func findUser(root, name string) (specs.User, error) {
	user, err := namedUser(root, name)
	if err != nil {
		return specs.User{}, err
	}
	login, _, _ := strings.Cut(name, ":")
	groups, err := groupsOf(root, login)
	if err != nil {
		return specs.User{}, err
	}
	if !slices.Contains(groups, user.GID) {
		groups = slices.Insert(groups, 0, user.GID)
	}
	user.AdditionalGids = groups
	return user, nil
}

// namedUser resolves user and group, without the other groups.
func namedUser(root, name string) (specs.User, error) {
	login, group, hasGroup := strings.Cut(name, ":")
	if strings.Contains(group, ":") {
		return specs.User{}, fmt.Errorf("invalid USER value %s", name)
	}
	if !hasGroup {
		return resolveUser(root, name, login, true)
	}
	// As containerd: what is left out is 0.
	user, err := resolveUser(root, name, cmp.Or(login, "0"), false)
	if err != nil {
		return specs.User{}, err
	}
	gid, numeric, ok := parseID(cmp.Or(group, "0"))
	if !ok {
		return specs.User{}, fmt.Errorf("invalid USER value %q: gid out of range", name)
	}
	if !numeric {
		gid, err = oci.GIDFromPath(root, func(g passwd.Group) bool { return g.Name == group })
	}
	return specs.User{UID: user.UID, GID: gid}, err
}

// resolveUser finds a user, given by name or number, and its primary group. Where the group
// is not wanted a number is taken as it is.
func resolveUser(root, name, login string, group bool) (specs.User, error) {
	if group && (login == "root" || login == "0") { // needs no entry in /etc/passwd
		return specs.User{}, nil
	}
	uid, numeric, ok := parseID(login)
	if !ok {
		return specs.User{}, fmt.Errorf("invalid USER value %q: uid out of range", name)
	}
	if numeric && !group {
		return specs.User{UID: uid}, nil
	}
	entry, err := oci.UserFromPath(root, func(u passwd.User) bool {
		return numeric && u.Uid == int(uid) || !numeric && u.Name == login
	})
	switch {
	case err == nil:
		return specs.User{UID: uint32(entry.Uid), GID: uint32(entry.Gid)}, nil
	case numeric && unknown(err):
		return specs.User{UID: uid}, nil
	default:
		return specs.User{}, err
	}
}

// parseID tells whether text is a number, and whether it is one that runc takes.
func parseID(text string) (id uint32, numeric, ok bool) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, false, !errors.Is(err, strconv.ErrRange)
	}
	return uint32(n), true, n >= 0 && n <= math.MaxInt32
}

// unknown says that an image has no such user, or no such file.
func unknown(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, oci.ErrNoUsersFound)
}

// groupsOf are the groups that name a user, given by name or number, as a member; one of the
// same name as the user is the primary one.
func groupsOf(root, login string) ([]uint32, error) {
	if uid, err := strconv.Atoi(login); err == nil {
		entry, err := oci.UserFromPath(root, func(u passwd.User) bool { return u.Uid == uid })
		if unknown(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		login = entry.Name
	}
	var groups []uint32
	_, err := oci.GIDFromPath(root, func(g passwd.Group) bool {
		if g.Name != login && slices.Contains(g.List, login) {
			groups = append(groups, uint32(g.Gid))
		}
		return false // all of them, not the first
	})
	if err != nil && !errors.Is(err, oci.ErrNoGroupsFound) && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return groups, nil
}
