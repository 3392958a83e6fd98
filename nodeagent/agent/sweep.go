package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/keelson-dev/keelson/nodeagent/network"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// followRuntime wakes the worker of each Pod of which something changed.
func (a *agent) followRuntime(events <-chan runtime.Event) {
	for event := range events {
		if event.Type == runtime.Resync {
			a.pool.WakeAll()
			poke(a.sweepNow)
			continue
		}
		a.pool.Wake(event.PodUID)
	}
}

// sweepLoop compares the machine with the workers now and then. It starts after the
// Pods of the API were handed to their workers, so what has no worker has no owner.
func (a *agent) sweepLoop(ctx context.Context) {
	ticker := a.clock.NewTicker(relistInterval)
	defer ticker.Stop()
	for {
		if err := a.sweep(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot sweep everything, will retry")
		}
		select {
		case <-ctx.Done():
			return
		case <-a.sweepNow:
		case <-ticker.C(): // the safety net under the runtime's events
			a.manager.RecheckNetworks()
			a.weighBurstable(ctx)
			a.pool.WakeAll()
		}
	}
}

// sweep removes what nobody owns. Containers come first: their Pods then have workers
// that remove the rest.
func (a *agent) sweep(ctx context.Context) error {
	if !a.static.set.Complete() {
		return nil // what runs may be a static Pod's of which nothing was read yet
	}
	pods, err := a.runtime.List(ctx)
	if err != nil {
		return fmt.Errorf("listing what the runtime holds: %w", err)
	}
	for _, pod := range pods {
		a.pool.Orphan(pod.PodIdentity)
	}
	networkErr := a.network.Sweep(ctx, a.pool.Has)
	if errors.Is(networkErr, network.ErrNotConfigured) {
		networkErr = nil // it is asked again when it is configured
	}
	return errors.Join(networkErr, a.sweepFiles(ctx, a.pool.Has))
}

// sweepFiles removes folders, logs and cgroups of Pods. Another agent on the same
// machine may have its own beside ours: only those count whose Pod has a folder here,
// which is made first and removed last.
func (a *agent) sweepFiles(ctx context.Context, keep func(types.UID) bool) error {
	entries, err := os.ReadDir(a.manager.PodsDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		uid := types.UID(e.Name())
		if keep(uid) {
			continue
		}
		klog.FromContext(ctx).Info("Removing files of a Pod that nobody owns", "podUID", uid)
		errs = append(errs, a.sweepPodFiles(ctx, uid))
	}
	return errors.Join(errs...)
}

func (a *agent) sweepPodFiles(ctx context.Context, uid types.UID) error {
	logDirs, err := filepath.Glob(filepath.Join(a.podLogDir(), "*_*_"+string(uid)))
	if err != nil {
		return fmt.Errorf("looking for the logs of Pod %s: %w", uid, err)
	}
	for _, dir := range logDirs {
		if err := errors.Join(removeLinksInto(a.containerLogDir(), dir), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	if err := a.manager.Volumes.TearDown(ctx, uid); err != nil { // before the folder: nothing may be removed through a mount
		return err
	}
	if err := a.cgroups.Remove(uid); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(a.manager.PodsDir(), string(uid))); err != nil {
		return err
	}
	a.manager.Users.Release(uid)
	return nil
}

// removeLinksInto removes the links in dir that lead into target.
func removeLinksInto(dir, target string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(path); err == nil && strings.HasPrefix(to, target+"/") {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}
