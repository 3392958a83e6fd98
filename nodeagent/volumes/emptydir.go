package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// medium is where a volume's files are. Secrets, tokens and facts about the Pod never
// reach a disk, as upstream.
func medium(v *corev1.Volume) corev1.StorageMedium {
	switch {
	case v.EmptyDir != nil:
		return v.EmptyDir.Medium
	case v.ConfigMap != nil:
		return corev1.StorageMediumDefault
	default:
		return corev1.StorageMediumMemory
	}
}

func (m *Manager) setUpEmptyDir(pod *keelsonv1.Pod, v *corev1.Volume) error {
	dir := m.path(pod.UID, v)
	mount := func() error {
		return m.Mounter.MountMemory(dir, memorySize(&pod.Spec, v.EmptyDir, m.Allocatable()))
	}
	switch medium := v.EmptyDir.Medium; {
	case medium == corev1.StorageMediumDefault:
		mount = nil
	case medium == corev1.StorageMediumMemory:
	case isHugePages(medium):
		pages, err := computeHugePages(&pod.Spec, v.EmptyDir)
		if err != nil {
			return err
		}
		mount = func() error { return m.Mounter.MountHugePages(dir, pages) }
	default:
		return fmt.Errorf("unknown storage medium %q", medium)
	}
	made, err := m.makeFolder(dir, mount)
	if err != nil {
		return err
	}
	if !made {
		return nil // what containers have made of it is theirs
	}
	return giveToGroup(dir, fsGroup(pod), false)
}

// makeFolder makes the folder of a volume, on the disk without mount, and says whether it
// was not there.
func (m *Manager) makeFolder(dir string, mount func() error) (bool, error) {
	made := true
	if _, err := os.Lstat(dir); err == nil {
		made = false
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("looking for the volume: %w", err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return false, fmt.Errorf("making the volume's folder: %w", err)
	}
	if mount == nil {
		if !made {
			return false, nil
		}
		if err := os.Chmod(dir, 0o777); err != nil { // the umask may have cut it
			return false, fmt.Errorf("making the volume's folder: %w", err)
		}
		return true, nil
	}
	mounted, err := m.Mounter.IsMountPoint(dir)
	if err != nil || mounted {
		return false, err
	}
	if err := mount(); err != nil {
		return false, fmt.Errorf("mounting a file system in memory: %w", err)
	}
	return true, nil
}

// memorySize bounds a volume in memory, as upstream: by its own limit, by those of the
// Pod's containers where each has one, and by what the node can give.
func memorySize(spec *corev1.PodSpec, source *corev1.EmptyDirVolumeSource, allocatable corev1.ResourceList) string {
	if source.Medium != corev1.StorageMediumMemory {
		return ""
	}
	size := allocatable.Memory().Value()
	if limit := memoryLimit(spec); limit > 0 && (size == 0 || limit < size) {
		size = limit
	}
	if source.SizeLimit != nil && source.SizeLimit.Value() > 0 && (size == 0 || source.SizeLimit.Value() < size) {
		size = source.SizeLimit.Value()
	}
	if size == 0 {
		return ""
	}
	return strconv.FormatInt(size, 10)
}

// memoryLimit is the memory that all containers together may use, 0 when one of them has
// no limit.
func memoryLimit(spec *corev1.PodSpec) int64 {
	var sum int64
	for i := range spec.Containers {
		limit := spec.Containers[i].Resources.Limits.Memory().Value()
		if limit == 0 {
			return 0
		}
		sum += limit
	}
	return sum
}
