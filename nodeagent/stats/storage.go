package stats

import (
	"context"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// diskAge is how old a Pod's measured disk may be in a Summary: measuring walks through
// all its files.
const diskAge = time.Minute

// addPodDisk adds what a Pod has on disk.
func (s *Sampler) addPodDisk(ctx context.Context, pod runtime.PodState, stats *statsv1alpha1.PodStats) error {
	if s.Disks == nil {
		return nil
	}
	measured, err := s.Disks.Measure(ctx, pod, diskAge)
	if err != nil {
		return err
	}
	node, err := readFileSystem(s.RootDir)
	if err != nil {
		return err
	}
	layers := node
	if images, ok := s.imageFileSystem(ctx); ok {
		layers = images
	}
	at := metav1.NewTime(measured.At)
	fs := func(disk fileSystem, used runtime.DiskUsage) *statsv1alpha1.FsStats {
		f := s.fsStats(disk, uint64(used.Bytes), uint64(used.Inodes))
		f.Time = at
		return f
	}
	for i := range stats.Containers {
		at := slices.IndexFunc(measured.Containers, func(c ContainerDisk) bool { return c.Name == stats.Containers[i].Name })
		if at < 0 {
			continue // it started after the last look
		}
		stats.Containers[i].Rootfs = fs(layers, measured.Containers[at].Rootfs)
		stats.Containers[i].Logs = fs(node, measured.Containers[at].Logs)
	}
	for _, name := range slices.Sorted(maps.Keys(measured.Volumes)) {
		stats.VolumeStats = append(stats.VolumeStats, statsv1alpha1.VolumeStats{Name: name, FsStats: *fs(node, measured.Volumes[name])})
	}
	stats.EphemeralStorage = fs(node, measured.Total())
	return nil
}

// addImageDisk adds the file system of images and writable layers.
func (s *Sampler) addImageDisk(ctx context.Context, stats *statsv1alpha1.NodeStats) {
	disk, ok := s.imageFileSystem(ctx)
	if !ok {
		return
	}
	fs := s.fsStats(disk, disk.used, disk.inodes-disk.inodesFree)
	stats.Runtime = &statsv1alpha1.RuntimeStats{ImageFs: fs, ContainerFs: fs}
}

func (s *Sampler) imageFileSystem(ctx context.Context) (fileSystem, bool) {
	if s.ImageFolder == nil {
		return fileSystem{}, false
	}
	folder, err := s.ImageFolder(ctx)
	if err == nil {
		var disk fileSystem
		if disk, err = readFileSystem(folder); err == nil {
			return disk, true
		}
	}
	klog.FromContext(ctx).V(2).Info("Cannot measure the disk of images", "err", err)
	return fileSystem{}, false
}
