package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
)

// Sweep removes the network of every Pod that keep does not want, and everything that
// belongs to no lease. keep is asked while that Pod's Setup and Teardown wait, so it
// must not call this package; it should answer from the present, not from a list made
// before Sweep began. Sweep goes on after an error and returns all of them.
func (n *Network) Sweep(ctx context.Context, keep func(types.UID) bool) error {
	c := n.current.Load()
	if c == nil {
		return ErrNotConfigured
	}
	// What has no lease is looked for first: a lease is made before the rest and
	// removed after it, so one that is in the making now is not taken for garbage.
	links, err := n.kernel.Links()
	errs := []error{err}
	names, err := n.kernel.ListNamespaces(n.cfg.NetNSDir)
	errs = append(errs, err)

	for _, lease := range c.ipam.Leases() {
		errs = append(errs, n.sweepPod(ctx, lease.UID, func() bool { return keep(lease.UID) }))
	}
	for _, l := range links {
		if isPodLink(l.Name) {
			errs = append(errs, n.sweepLink(ctx, c, l.Name))
		}
	}
	for _, name := range names {
		uid := types.UID(name)
		errs = append(errs, n.sweepPod(ctx, uid, func() bool { _, leased := c.ipam.Lookup(uid); return leased }))
	}
	errs = append(errs, ctx.Err())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("sweeping the Pod network: %w", err)
	}
	return nil
}

func (n *Network) sweepPod(ctx context.Context, uid types.UID, wanted func() bool) error {
	unlock := n.pods.lock(linkName(uid))
	defer unlock()
	if ctx.Err() != nil || wanted() {
		return nil
	}
	klog.FromContext(ctx).Info("Removing the network of a Pod that nobody owns", "podUID", uid)
	return n.teardownLocked(uid)
}

func (n *Network) sweepLink(ctx context.Context, c *configured, name string) error {
	unlock := n.pods.lock(name)
	defer unlock()
	for _, lease := range c.ipam.Leases() {
		if linkName(lease.UID) == name {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	klog.FromContext(ctx).Info("Removing an interface that belongs to no Pod", "interface", name)
	return n.deleteLink(name)
}

func removeDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing %s: %w", dir, err)
	}
	return nil
}

// removeEmptyDir leaves a directory that holds something else.
func removeEmptyDir(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return fmt.Errorf("removing %s: %w", dir, err)
}
