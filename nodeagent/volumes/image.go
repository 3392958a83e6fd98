package volumes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
)

// Images shows the files of images; runtime/containerd does. Every method may be
// repeated.
type Images interface {
	// MountImage mounts a local image, for reading only, at dir, which exists and where
	// nothing is mounted. The files stay on this machine until ReleaseImage.
	MountImage(ctx context.Context, pod types.UID, volume, ref, dir string) error
	// ReleaseImage frees what MountImage took, after the unmount.
	ReleaseImage(ctx context.Context, pod types.UID, volume string) error
}

const imagePlugin = "kubernetes.io~image"

// ImageVolumes lists the volumes that container c mounts and whose images are not there
// yet. An image is resolved once in a Pod's life: what is mounted stays.
func (m *Manager) ImageVolumes(pod *keelsonv1.Pod, c *corev1.Container) ([]*corev1.Volume, error) {
	var missing []*corev1.Volume
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image == nil || !names(c.VolumeMounts, v.Name) {
			continue
		}
		mounted, err := m.Mounter.IsMountPoint(m.path(pod.UID, v))
		if err != nil {
			return nil, err
		}
		if !mounted {
			missing = append(missing, v)
		}
	}
	return missing, nil
}

// MountImage mounts the image ref, which is on this machine, as the Pod's volume.
func (m *Manager) MountImage(ctx context.Context, pod *keelsonv1.Pod, v *corev1.Volume, ref string) error {
	dir := m.path(pod.UID, v)
	mounted, err := m.Mounter.IsMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the volume's folder: %w", err)
	}
	return m.Images.MountImage(ctx, pod.UID, v.Name, ref, dir)
}

// releaseImages frees the images of a Pod's volumes, which are not mounted any more. The
// folders say which there were.
func (m *Manager) releaseImages(ctx context.Context, uid types.UID) error {
	entries, err := os.ReadDir(filepath.Join(m.podDir(uid), volumesFolder, imagePlugin))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for volumes of images: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		errs = append(errs, m.Images.ReleaseImage(ctx, uid, entry.Name()))
	}
	return errors.Join(errs...)
}
