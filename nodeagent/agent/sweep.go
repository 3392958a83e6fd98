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

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
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
		case <-ticker.C():
			a.pool.WakeAll() // the safety net under the runtime's events
		}
	}
}

// sweep removes what nobody owns. Containers come first: their Pods then have workers
// that remove the rest.
func (a *agent) sweep(ctx context.Context) error {
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
	return errors.Join(networkErr, a.sweepCgroups(ctx), a.sweepFiles(ctx))
}

func (a *agent) sweepCgroups(ctx context.Context) error {
	uids, err := a.cgroups.Pods()
	errs := []error{err}
	for _, uid := range uids {
		if a.pool.Has(types.UID(uid)) {
			continue
		}
		klog.FromContext(ctx).Info("Removing the cgroup of a Pod that nobody owns", "podUID", uid)
		errs = append(errs, a.cgroups.Remove(cgroups.PodPath(types.UID(uid))))
	}
	return errors.Join(errs...)
}

// sweepFiles removes folders of Pods, of logs, and links to logs that are gone.
func (a *agent) sweepFiles(ctx context.Context) error {
	podsErr := a.sweepFolders(ctx, filepath.Join(a.options.RootDir, "pods"), func(name string) types.UID { return types.UID(name) })
	logsErr := a.sweepFolders(ctx, a.podLogDir(), logFolderUID)
	return errors.Join(podsErr, logsErr, sweepLinks(filepath.Join(a.options.LogDir, "containers"), a.podLogDir()))
}

// logFolderUID returns the UID in <namespace>_<name>_<uid>, empty for other names.
func logFolderUID(name string) types.UID {
	parts := strings.Split(name, "_")
	if len(parts) != 3 {
		return ""
	}
	return types.UID(parts[2])
}

func (a *agent) sweepFolders(ctx context.Context, dir string, uidOf func(string) types.UID) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		uid := uidOf(e.Name())
		if uid == "" || !e.IsDir() || a.pool.Has(uid) {
			continue
		}
		klog.FromContext(ctx).Info("Removing files of a Pod that nobody owns", "podUID", uid, "folder", dir)
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// sweepLinks removes links into logDir whose target is gone.
func sweepLinks(dir, logDir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		target, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(target, logDir+"/") {
			continue // not ours
		}
		if _, err := os.Stat(target); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}
