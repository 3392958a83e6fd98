package netlinkx

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/keelson-dev/keelson/nodeagent/userns"
)

func (kernel) CreateNamespace(path string) error {
	bound, err := isBound(path)
	if err != nil || bound {
		return wrap(err, "network namespace %s", path)
	}
	if err := makeNamespaceFile(path); err != nil {
		return err
	}
	return onOwnThread(func() error {
		if err := retryErr(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		return bindNamespace("/proc/thread-self/ns/net", path)
	})
}

func (kernel) CreateOwnedNamespace(path string, users userns.Range) error {
	bound, err := isBound(path)
	if err != nil || bound {
		return wrap(err, "network namespace %s", path)
	}
	if err := makeNamespaceFile(path); err != nil {
		return err
	}
	err = userns.In(users, unix.CLONE_NEWNET, func(dir string) error { return bindNamespace(dir+"/net", path) })
	if err != nil {
		return fmt.Errorf("making a network namespace with user IDs of its own: %w", err)
	}
	return nil
}

func bindNamespace(from, path string) error {
	err := retryErr(func() error { return unix.Mount(from, path, "", unix.MS_BIND, "") })
	return wrap(err, "binding a network namespace to %s", path)
}

// makeNamespaceFile makes what a namespace is bound to.
func makeNamespaceFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of network namespaces: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("making the file of a network namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("making the file of a network namespace: %w", err)
	}
	return nil
}

// isBound tells whether a namespace is mounted at path; no file means no.
func isBound(path string) (bool, error) {
	fsInfo, err := retry(func() (unix.Statfs_t, error) {
		var s unix.Statfs_t
		err := unix.Statfs(path, &s)
		return s, err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return fsInfo.Type == unix.NSFS_MAGIC, err
}

func (kernel) DeleteNamespace(path string) error {
	for {
		err := retryErr(func() error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break // nothing (more) is mounted there
		}
		if err != nil {
			return wrap(err, "unbinding the network namespace %s", path)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the file of a network namespace: %w", err)
	}
	return nil
}

func (kernel) ListNamespaces(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing network namespaces: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

func (kernel) InNamespace(path string, f func(Handle) error) error {
	bound, err := isBound(path)
	if err != nil {
		return wrap(err, "network namespace %s", path)
	}
	if !bound {
		return fmt.Errorf("network namespace %s: %w", path, ErrNotFound)
	}
	ns, err := os.Open(path)
	if err != nil {
		return wrap(err, "network namespace %s", path)
	}
	err = onOwnThread(func() error {
		if err := retryErr(func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) }); err != nil {
			return fmt.Errorf("entering the network namespace %s: %w", path, err)
		}
		return f(handle{})
	})
	return errors.Join(err, ns.Close())
}

// onOwnThread runs f on a thread that ends with it: the namespace of a thread that
// went elsewhere must never come back to the scheduler, not even when leaving fails.
func onOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end: it would stay in the namespace for ever, and
			// /proc/self with it. Held here, it cannot get the next goroutine.
			defer runtime.UnlockOSThread()
			result <- onOwnThread(f)
			return
		}
		result <- f() // never unlocked: the thread ends with this goroutine
	}()
	return <-result
}
