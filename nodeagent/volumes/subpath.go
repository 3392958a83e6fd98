package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeSubPath makes the folder path in the volume unless something is there. Folders get
// the mode of the volume, so that those who may write in it may write in them. Links are
// followed only as far as they stay in the volume, whoever changes them meanwhile.
func makeSubPath(volume, path string) error {
	info, err := os.Stat(volume)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return nil // openIn says what is wrong
	}
	root, err := os.OpenRoot(volume)
	if err != nil {
		return err
	}
	return errors.Join(makeIn(root, filepath.Clean(path), info.Mode()), root.Close())
}

// makeIn makes path and, first, its parents.
func makeIn(root *os.Root, path string, mode fs.FileMode) error {
	if path == "." {
		return nil
	}
	_, err := root.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeIn(root, filepath.Dir(path), mode); err != nil {
		return err
	}
	if err := root.Mkdir(path, 0o700); errors.Is(err, fs.ErrExist) {
		return nil // somebody else has just made it
	} else if err != nil {
		return err
	}
	return root.Chmod(path, mode&(fs.ModePerm|fs.ModeSetgid|fs.ModeSticky))
}

// openIn opens path in the volume without reading it, and says whether it is a folder.
// The kernel refuses links that lead out of the volume.
func openIn(volume, path string) (*os.File, bool, error) {
	root, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open volume %s: %w", volume, err)
	}
	defer unix.Close(root)
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, path, how)
	if errors.Is(err, unix.ENOSYS) {
		return nil, false, fmt.Errorf("open %s in volume %s: paths within volumes need Linux 5.6 or newer (openat2): %w", path, volume, err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("open %s in volume %s: %w", path, volume, err)
	}
	open := os.NewFile(uintptr(fd), filepath.Join(volume, path))
	info, err := open.Stat()
	if err != nil {
		open.Close()
		return nil, false, fmt.Errorf("look at %s in volume %s: %w", path, volume, err)
	}
	return open, info.IsDir(), nil
}

// makeTarget makes the folder or the empty file that is bound over.
func makeTarget(target string, folder bool) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("making the mount point of a subPath: %w", err)
	}
	// What an earlier start made may be of the other kind.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making the mount point of a subPath: %w", err)
	}
	if folder {
		return os.Mkdir(target, 0o750)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return fmt.Errorf("making the mount point of a subPath: %w", err)
	}
	return f.Close()
}
