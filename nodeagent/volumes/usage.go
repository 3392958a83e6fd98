package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Usage measures pod's volumes that take of the node's disk and that Pods or users fill:
// those upstream counts as local ephemeral storage. It walks through them.
func (m *Manager) Usage(pod *keelsonv1.Pod) (map[string]runtime.DiskUsage, error) {
	used := map[string]runtime.DiskUsage{}
	var errs []error
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if !onDisk(v) {
			continue
		}
		one, err := usage(m.path(pod.UID, v))
		if err != nil {
			errs = append(errs, fmt.Errorf("measuring volume %q: %w", v.Name, err))
			continue
		}
		used[v.Name] = one
	}
	return used, errors.Join(errs...)
}

// onDisk says that the volume counts as local ephemeral storage.
func onDisk(v *corev1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault || v.ConfigMap != nil || v.GitRepo != nil
}

// usage is what dir takes of its disk; a file with several names counts once, and other
// disks mounted below do not count. What goes away meanwhile does not either.
func usage(dir string) (runtime.DiskUsage, error) {
	const blockSize = 512
	var sum runtime.DiskUsage
	var device uint64
	linked := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("no details about %s", path)
		}
		switch {
		case path == dir:
			device = stat.Dev
		case stat.Dev != device && entry.IsDir():
			return fs.SkipDir
		case stat.Dev != device, linked[stat.Ino]:
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			linked[stat.Ino] = true
		}
		sum.Bytes += stat.Blocks * blockSize
		sum.Inodes++
		return nil
	})
	return sum, err
}
