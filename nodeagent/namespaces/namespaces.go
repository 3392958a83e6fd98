// Package namespaces makes the kernel's namespaces live without a process: a file that a
// namespace is bound to holds it, and whoever knows the path can enter it.
//
// It decides nothing and keeps nothing. Every function may be repeated after a crash at any
// point; what an interrupted Bind leaves, a file without a namespace, counts as not bound and
// goes with Unbind. A restart of the machine takes all namespaces and leaves at most such files.
package namespaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Bind binds the namespace at from, such as /proc/thread-self/ns/net, to the file path, which
// is made.
func Bind(from, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return fmt.Errorf("make the folder of a namespace: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o444)
	if err != nil {
		return fmt.Errorf("make the file of a namespace: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("make the file of a namespace: %w", err)
	}
	if err := uninterrupted(func() error { return unix.Mount(from, path, "", unix.MS_BIND, "") }); err != nil {
		return fmt.Errorf("bind the namespace %s to %s: %w", from, path, err)
	}
	return nil
}

// Bound tells whether a namespace is bound to path; no file means no.
func Bound(path string) (bool, error) {
	var stat unix.Statfs_t
	err := uninterrupted(func() error { return unix.Statfs(path, &stat) })
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the namespace %s: %w", path, err)
	}
	return stat.Type == unix.NSFS_MAGIC, nil
}

// Unbind takes off all that is bound to path and removes the file. The namespace ends when
// nothing else holds it. It succeeds when there is none.
func Unbind(path string) error {
	for {
		err := uninterrupted(func() error { return unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) })
		if errors.Is(err, unix.EINVAL) || errors.Is(err, fs.ErrNotExist) {
			break // nothing (more) is mounted there
		}
		if err != nil {
			return fmt.Errorf("unbind the namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the file of a namespace: %w", err)
	}
	return nil
}

// Enter makes the calling thread, which must be one of OnOwnThread, a member of the namespace
// at path. kind is the clone flag of its type, such as CLONE_NEWNET.
func Enter(path string, kind int) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("enter a namespace: %w", err)
	}
	defer func() { _ = file.Close() }()
	if err := uninterrupted(func() error { return unix.Setns(int(file.Fd()), kind) }); err != nil {
		return fmt.Errorf("enter the namespace %s: %w", path, err)
	}
	return nil
}

// OnOwnThread runs f on a thread that ends with it: a thread that went to other namespaces
// must never come back to the scheduler, not even when leaving fails.
func OnOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end: it would stay in the namespace for ever, and
			// /proc/self with it. Held here, it cannot get the next goroutine.
			defer runtime.UnlockOSThread()
			result <- OnOwnThread(f)
			return
		}
		result <- f() // never unlocked: the thread ends with this goroutine
	}()
	return <-result
}

func uninterrupted(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
