package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/env"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Mounts lists what a container mounts of the Pod's volumes, which SetUp has made.
// variables are "NAME=value" as the container sees them. What it binds for paths within
// volumes is in the machine's table until ReleaseMounts.
func (m *Manager) Mounts(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container, variables []string) ([]runtime.Mount, error) {
	var mounts []runtime.Mount
	for i := range c.VolumeMounts {
		mount, err := m.mount(ctx, pod, c, i, variables)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (m *Manager) mount(ctx context.Context, pod *keelsonv1.Pod, c *corev1.Container, index int, variables []string) (runtime.Mount, error) {
	vm := &c.VolumeMounts[index]
	at := slices.IndexFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == vm.Name })
	if at < 0 {
		return runtime.Mount{}, fmt.Errorf("cannot find volume %q to mount into container %q", vm.Name, c.Name)
	}
	volume := &pod.Spec.Volumes[at]
	host := m.path(pod.UID, volume)
	subPath, err := subPathOf(vm, variables)
	if err != nil {
		return runtime.Mount{}, err
	}
	switch {
	case subPath != "":
		target := m.subPathTarget(pod.UID, c.Name, vm.Name, index)
		if host, err = m.bindSubPath(ctx, volumePath{host, volume.Image != nil}, subPath, target, c.Name, vm.Name); err != nil {
			return runtime.Mount{}, err
		}
	case volume.HostPath != nil:
		if host, err = makeUntyped(host); err != nil {
			return runtime.Mount{}, err
		}
	}
	recursive, err := recursiveReadOnly(vm)
	if err != nil {
		return runtime.Mount{}, err
	}
	path := vm.MountPath
	if !filepath.IsAbs(path) {
		path = "/" + path
	}
	return runtime.Mount{
		HostPath: host, ContainerPath: path,
		ReadOnly:          vm.ReadOnly || volume.EmptyDir == nil && volume.HostPath == nil,
		RecursiveReadOnly: recursive, Propagation: propagation(vm), NoExec: volume.Image != nil,
		Mapped:  volume.Image != nil,
		Relabel: volume.HostPath == nil && volume.Image == nil,
	}, nil
}

func propagation(vm *corev1.VolumeMount) runtime.Propagation {
	switch ptr.Deref(vm.MountPropagation, corev1.MountPropagationNone) {
	case corev1.MountPropagationHostToContainer:
		return runtime.PropagationHostToContainer
	case corev1.MountPropagationBidirectional:
		return runtime.PropagationBidirectional
	default:
		return runtime.PropagationPrivate
	}
}

// recursiveReadOnly says whether mounts below the volume are for reading only too. The
// kernel's mount_setattr, which does it, is as old as the runtime needs.
func recursiveReadOnly(vm *corev1.VolumeMount) (bool, error) {
	switch mode := ptr.Deref(vm.RecursiveReadOnly, corev1.RecursiveReadOnlyDisabled); mode {
	case corev1.RecursiveReadOnlyDisabled:
		return false, nil
	case corev1.RecursiveReadOnlyIfPossible, corev1.RecursiveReadOnlyEnabled:
		return true, nil
	default:
		return false, fmt.Errorf("failed to resolve recursive read-only mode: unknown recursive read-only mode %q", mode)
	}
}

// makeUntyped makes the folder that a hostPath volume without a type names, as upstream's
// runtimes do, and follows the links of the machine.
func makeUntyped(path string) (string, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return "", fmt.Errorf("failed to mkdir %q: %w", path, err)
		}
		resolved, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("failed to resolve symlink %q: %w", path, err)
	}
	return resolved, nil
}

// subPathOf is the path within the volume, empty for all of it.
func subPathOf(vm *corev1.VolumeMount, variables []string) (string, error) {
	path := vm.SubPath
	if vm.SubPathExpr != "" {
		var err error
		if path, err = expandSubPath(vm.SubPathExpr, variables); err != nil {
			return "", err
		}
	}
	switch {
	case filepath.IsAbs(path):
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", path)
	case slices.Contains(strings.Split(path, "/"), ".."):
		return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", path)
	}
	return path, nil
}

func expandSubPath(expression string, variables []string) (string, error) {
	values := make(map[string]string, len(variables))
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	var missing []string
	path := env.Expand(expression, func(name string) (string, bool) {
		value, ok := values[name]
		if !ok {
			missing = append(missing, name)
		}
		return value, ok
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("missing value for %q", missing[len(missing)-1])
	}
	return path, nil
}

func (m *Manager) subPathTarget(uid types.UID, container, volume string, index int) string {
	return filepath.Join(m.podDir(uid), subPathsFolder, volume, container, strconv.Itoa(index))
}

// volumePath is where a volume is; nothing can be made in a fixed one.
type volumePath struct {
	path  string
	fixed bool
}

// bindSubPath makes target show what path names in the volume. The errors for the Pod's
// owner say no more than upstream's: details would tell about the machine's files.
func (m *Manager) bindSubPath(ctx context.Context, volume volumePath, path, target, container, name string) (string, error) {
	log := klog.FromContext(ctx).WithValues("container", container, "volume", name)
	if !volume.fixed {
		if err := makeSubPath(volume.path, path); err != nil {
			log.Error(err, "Cannot make the folder of a subPath", "subPath", path)
			return "", fmt.Errorf("failed to create subPath directory for volumeMount %q of container %q", name, container)
		}
	}
	if err := m.bind(volume.path, path, target); err != nil {
		log.Error(err, "Cannot bind a subPath", "subPath", path)
		return "", fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", name, container)
	}
	return target, nil
}

// bind replaces what an earlier start of the container left.
func (m *Manager) bind(volume, path, target string) error {
	open, folder, err := openIn(volume, path)
	if err != nil {
		return err
	}
	defer open.Close()
	if err := m.Mounter.Unmount(target); err != nil {
		return err
	}
	if err := makeTarget(target, folder); err != nil {
		return err
	}
	return m.Mounter.Bind(open, target)
}

// ReleaseMounts takes away what Mounts bound for a container. A container that runs has
// its own copies.
func (m *Manager) ReleaseMounts(pod *keelsonv1.Pod, c *corev1.Container) error {
	var errs []error
	for i := range c.VolumeMounts {
		vm := &c.VolumeMounts[i]
		if vm.SubPath != "" || vm.SubPathExpr != "" {
			errs = append(errs, m.Mounter.Unmount(m.subPathTarget(pod.UID, c.Name, vm.Name, i)))
		}
	}
	return errors.Join(errs...)
}
