package volumes

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// maxFile bounds what is read of a file that a container has written, in bytes.
const maxFile = 1 << 20

// FilePath is where a file in a Pod's volume is on this machine; false when no container
// mounts such a volume. It looks at nothing and is for messages.
func (m *Manager) FilePath(pod *keelsonv1.Pod, volume, path string) (string, bool) {
	at := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
	if at < 0 || !mounted(&pod.Spec, volume) {
		return "", false
	}
	return filepath.Join(m.path(pod.UID, &pod.Spec.Volumes[at]), path), true
}

// ReadFile reads a file in a volume that containers write. Links are followed only as far
// as they stay in the volume; what is no ordinary file, or longer than 1 MiB, is refused,
// and nobody can make the reader wait.
func (m *Manager) ReadFile(pod *keelsonv1.Pod, volume, path string) (string, error) {
	at := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == volume })
	if at < 0 {
		return "", fmt.Errorf("the Pod has no volume %q", volume)
	}
	return readIn(m.path(pod.UID, &pod.Spec.Volumes[at]), path)
}

func readIn(volume, path string) (string, error) {
	open, folder, err := openIn(volume, path)
	if err != nil {
		return "", err
	}
	defer open.Close()
	info, err := open.Stat()
	if err != nil {
		return "", fmt.Errorf("look at %s in volume %s: %w", path, volume, err)
	}
	if folder || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s in volume %s is no ordinary file: %s", path, volume, info.Mode().Type())
	}
	// The opened path cannot be read itself; through it the very same file can.
	file, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", open.Fd()), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open %s in volume %s: %w", path, volume, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s in volume %s: %w", path, volume, err)
	}
	if len(data) > maxFile {
		return "", fmt.Errorf("%s in volume %s is longer than %d bytes", path, volume, maxFile)
	}
	return string(data), nil
}
