package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Overfull says, in upstream's words, which of pod's volumes on disk has grown beyond its
// limit; it is empty when none has. Volumes without a limit cost nothing.
func (m *Manager) Overfull(pod *keelsonv1.Pod) (string, error) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumDefault || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() != 1 {
			continue
		}
		used, err := usage(m.path(pod.UID, v))
		if err != nil {
			return "", fmt.Errorf("measuring volume %q: %w", v.Name, err)
		}
		if used > v.EmptyDir.SizeLimit.Value() {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String()), nil
		}
	}
	return "", nil
}

// usage is what dir takes of its disk in bytes; a file with several names counts once,
// and other disks mounted below do not count. What goes away meanwhile does not either.
func usage(dir string) (int64, error) {
	const blockSize = 512
	var sum int64
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
		sum += stat.Blocks * blockSize
		return nil
	})
	return sum, err
}
