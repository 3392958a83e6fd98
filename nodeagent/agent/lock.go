package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// claims are what this process holds for itself. The kernel frees them with the
// process, however it ends.
type claims struct {
	held []func() error
}

// claim makes this process the only one in its root folder, and the only one with its
// half in this network namespace: another would take its Pods and rules for garbage.
func claim(ctx context.Context, o *Options) (*claims, error) {
	c := &claims{}
	if o.Agent {
		if err := errors.Join(c.lockRoot(o.RootDir), c.takeName(ctx, "agent")); err != nil {
			return nil, errors.Join(err, c.release())
		}
	}
	if o.Proxy {
		if err := c.takeName(ctx, "proxy"); err != nil {
			return nil, errors.Join(err, c.release())
		}
	}
	return c, nil
}

func (c *claims) release() error {
	var errs []error
	for _, free := range c.held {
		errs = append(errs, free())
	}
	c.held = nil
	return errors.Join(errs...)
}

func lockPath(root string) string { return filepath.Join(root, "keelson-node.lock") }

// lockRoot locks a file in the root folder; it says who holds it.
func (c *claims) lockRoot(root string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("--root-dir: %w", err)
	}
	file, err := os.OpenFile(lockPath(root), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("--root-dir: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder, _ := os.ReadFile(lockPath(root)) // only to say more
		return errors.Join(fmt.Errorf("--root-dir: another keelson-node (process %s) works in %s: end it, or give this one a folder of its own",
			strings.TrimSpace(string(holder)), root), file.Close())
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = fmt.Fprintln(file, os.Getpid())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("--root-dir: locking %s: %w", file.Name(), err), file.Close())
	}
	c.held = append(c.held, file.Close)
	return nil
}

// takeName takes a name that the kernel gives out once per network namespace, as an
// abstract socket: nothing of it is in the file system.
func (c *claims) takeName(ctx context.Context, half string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", "@keelson-node/"+half)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("another keelson-node with --%s runs on this machine (in this network namespace): end it, there can be only one", half)
	}
	if err != nil {
		return fmt.Errorf("looking for another keelson-node with --%s on this machine: %w", half, err)
	}
	c.held = append(c.held, listener.Close)
	return nil
}

// removeRoot removes the lock, which this process holds, and the folder when nothing
// else is in it.
func removeRoot(root string) error {
	if err := os.Remove(lockPath(root)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the lock: %w", err)
	}
	return removeEmpty(root)
}

// removeEmpty removes a folder that exists and holds nothing.
func removeEmpty(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
		return nil
	}
	return fmt.Errorf("removing an empty folder: %w", err)
}
