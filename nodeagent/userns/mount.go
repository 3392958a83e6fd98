package userns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OwnerOf binds the user namespace that owns the namespace at path to the file target,
// which is made.
func OwnerOf(path, target string) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("find the user namespace of %s: %w", path, err)
	}
	defer func() { _ = ns.Close() }()
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return fmt.Errorf("find the user namespace of %s: %w", path, err)
	}
	owner := os.NewFile(uintptr(fd), "user namespace")
	defer func() { _ = owner.Close() }()
	machine, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return fmt.Errorf("find the user namespace of the machine: %w", err)
	}
	if found, err := owner.Stat(); err != nil || os.SameFile(found, machine) {
		return errors.Join(fmt.Errorf("%s belongs to the machine's user namespace", path), err)
	}
	if err := makeTarget(target, false); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the user namespace of %s to %s: %w", path, target, err)
	}
	return nil
}

// Bind mounts source, a file or folder with what is mounted below it, at target, which is
// made, so that the files' IDs are those of the user namespace: what belongs to root
// belongs to the namespace's root. It is an error when the file system of source cannot do
// that; mounts below source stay as they are.
func Bind(source, target, namespace string) error {
	users, err := os.Open(namespace)
	if err != nil {
		return fmt.Errorf("map the IDs of %s: %w", source, err)
	}
	defer func() { _ = users.Close() }()
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return fmt.Errorf("map the IDs of %s: open it: %w", source, err)
	}
	tree := os.NewFile(uintptr(fd), source)
	defer func() { _ = tree.Close() }()
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(users.Fd())})
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("failed to set MOUNT_ATTR_IDMAP on %s: %w (maybe the filesystem used doesn't support idmap mounts on this kernel?)", source, err)
	}
	if err != nil {
		return fmt.Errorf("failed to set MOUNT_ATTR_IDMAP on %s: %w", source, err)
	}
	info, err := tree.Stat()
	if err != nil {
		return fmt.Errorf("map the IDs of %s: %w", source, err)
	}
	if err := makeTarget(target, info.IsDir()); err != nil {
		return err
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, target, err)
	}
	return nil
}

// makeTarget makes what is mounted over; a mount of an earlier try is taken off.
func makeTarget(target string, dir bool) error {
	if err := Unbind(target); err != nil {
		return err
	}
	if dir {
		if err := os.MkdirAll(target, 0o700); err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	return file.Close()
}

// Unbind takes off what OwnerOf or Bind mounted at target, and removes the mount point. It
// succeeds when there is none.
func Unbind(target string) error {
	for {
		err := unix.Unmount(target, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a mount point: %w", err)
	}
	return nil
}

// UnbindAll is Unbind for all that is in dir, and removes dir. It fails rather than remove a
// file through a mount.
func UnbindAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		errs = append(errs, Unbind(filepath.Join(dir, entry.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove a folder of mounts: %w", err)
	}
	return nil
}
