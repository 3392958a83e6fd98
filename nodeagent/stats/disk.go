package stats

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/logs"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// PodDisk is what a Pod has on disk.
type PodDisk struct {
	// At is when it was measured.
	At         time.Time
	Containers []ContainerDisk
	// Volumes are those that count as ephemeral storage, by name.
	Volumes map[string]runtime.DiskUsage
}

// ContainerDisk is what one running container has on disk: its writable layer, and the
// logs of it and of those before it under its name.
type ContainerDisk struct {
	Name         string
	Rootfs, Logs runtime.DiskUsage
}

// Total is the sum of all.
func (d PodDisk) Total() runtime.DiskUsage {
	var sum runtime.DiskUsage
	add := func(u runtime.DiskUsage) { sum.Bytes, sum.Inodes = sum.Bytes+u.Bytes, sum.Inodes+u.Inodes }
	for _, c := range d.Containers {
		add(c.Rootfs)
		add(c.Logs)
	}
	for _, v := range d.Volumes {
		add(v)
	}
	return sum
}

// Disks measures what Pods have on disk, by walking through it, and remembers.
type Disks struct {
	Storage runtime.Storage
	// Volumes measures a Pod's volumes.
	Volumes func(uid types.UID) (map[string]runtime.DiskUsage, error)
	Clock   clock.PassiveClock

	mu    sync.Mutex
	known map[types.UID]PodDisk
}

// Measure returns what was measured within maxAge, else measures.
func (d *Disks) Measure(ctx context.Context, pod runtime.PodState, maxAge time.Duration) (PodDisk, error) {
	d.mu.Lock()
	last, ok := d.known[pod.UID]
	d.mu.Unlock()
	if ok && maxAge > 0 && d.Clock.Since(last.At) < maxAge {
		return last, nil
	}
	measured, err := d.measure(ctx, pod)
	if err != nil {
		return PodDisk{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = map[types.UID]PodDisk{}
	}
	d.known[pod.UID] = measured
	return measured, nil
}

// Keep forgets all Pods but those that the runtime holds.
func (d *Disks) Keep(pods []runtime.PodState) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := make(map[types.UID]PodDisk, len(d.known))
	for _, pod := range pods {
		if known, ok := d.known[pod.UID]; ok {
			kept[pod.UID] = known
		}
	}
	d.known = kept
}

func (d *Disks) measure(ctx context.Context, pod runtime.PodState) (PodDisk, error) {
	measured := PodDisk{At: d.Clock.Now()}
	index := map[string]int{}
	for _, c := range pod.Containers {
		if c.State == runtime.Running {
			layer, err := d.Storage.ContainerUsage(ctx, c.ID)
			if err != nil {
				return PodDisk{}, err
			}
			index[c.Name] = len(measured.Containers)
			measured.Containers = append(measured.Containers, ContainerDisk{Name: c.Name, Rootfs: layer})
		}
	}
	for _, c := range pod.Containers {
		i, runs := index[c.Name]
		if !runs {
			continue
		}
		used, err := logUsage(c.LogPath)
		if err != nil {
			return PodDisk{}, err
		}
		to := &measured.Containers[i].Logs
		to.Bytes, to.Inodes = to.Bytes+used.Bytes, to.Inodes+used.Inodes
	}
	var err error
	if measured.Volumes, err = d.Volumes(pod.UID); err != nil {
		return PodDisk{}, fmt.Errorf("measuring its volumes: %w", err)
	}
	return measured, nil
}

// logUsage measures a log with what rotation has left of it.
func logUsage(path string) (runtime.DiskUsage, error) {
	var sum runtime.DiskUsage
	if path == "" {
		return sum, nil
	}
	files, err := logs.Rotated(path)
	if err != nil {
		return sum, err
	}
	for _, file := range append(files, path) {
		if info, err := os.Lstat(file); err == nil { // else rotation is at work
			sum.Bytes, sum.Inodes = sum.Bytes+info.Size(), sum.Inodes+1
		}
	}
	return sum, nil
}
