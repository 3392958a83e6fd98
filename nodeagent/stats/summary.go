package stats

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1alpha1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/keelson-dev/keelson/nodeagent/namespaces"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// defaultInterface is what the Summary API calls the one to look at.
const defaultInterface = "eth0"

// Summary returns what the node and every Pod that runs use now, as the kubelet's
// Summary API. Containers that do not run are left out, and what could not be read is
// not there.
func (s *Sampler) Summary(ctx context.Context, onlyCPUAndMemory bool) (*statsv1alpha1.Summary, error) {
	pods, err := s.Runtime.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}
	summary := &statsv1alpha1.Summary{Pods: []statsv1alpha1.PodStats{}}
	if summary.Node, err = s.nodeStats(onlyCPUAndMemory); err != nil {
		return nil, fmt.Errorf("reading what the node uses: %w", err)
	}
	if !onlyCPUAndMemory {
		s.addImageDisk(ctx, &summary.Node)
	}
	for _, pod := range pods {
		if !runs(pod) {
			continue
		}
		stats, err := s.podStats(pod, onlyCPUAndMemory)
		if err == nil && !onlyCPUAndMemory {
			err = s.addPodDisk(ctx, pod, &stats)
		}
		switch {
		case gone(err):
			continue
		case err != nil:
			return nil, fmt.Errorf("reading what Pod %s/%s uses: %w", pod.Namespace, pod.Name, err)
		}
		summary.Pods = append(summary.Pods, stats)
	}
	return summary, nil
}

// gone says that a cgroup, process or namespace went away between the list and the look.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) ||
		errors.Is(err, unix.EINVAL) // a namespace that is no longer bound to its file
}

func (s *Sampler) nodeStats(onlyCPUAndMemory bool) (statsv1alpha1.NodeStats, error) {
	stats := statsv1alpha1.NodeStats{NodeName: s.NodeName, StartTime: metav1.NewTime(s.started)}
	var err error
	if stats.CPU, err = s.cpuStats(rootCgroup, s.started); err != nil {
		return stats, err
	}
	m, err := readMachineMemory(s.ProcMount)
	if err != nil {
		return stats, err
	}
	stats.Memory = memoryStats(m, s.Clock.Now())
	if onlyCPUAndMemory {
		return stats, nil
	}
	if stats.Network, err = s.networkStats("self"); err != nil {
		return stats, err
	}
	disk, err := readFileSystem(s.RootDir)
	if err != nil {
		return stats, err
	}
	stats.Fs = s.fsStats(disk, disk.used, disk.inodes-disk.inodesFree)
	if running, most, err := readProcesses(s.ProcMount); err == nil { // a machine may not tell
		stats.Rlimit = &statsv1alpha1.RlimitStats{Time: metav1.NewTime(s.Clock.Now()), MaxPID: &most, NumOfRunningProcesses: &running}
	}
	return stats, nil
}

func (s *Sampler) podStats(pod runtime.PodState, onlyCPUAndMemory bool) (statsv1alpha1.PodStats, error) {
	box := sandbox(pod)
	cgroup := box.CgroupParent
	stats := statsv1alpha1.PodStats{
		PodRef:     statsv1alpha1.PodReference{Name: pod.Name, Namespace: pod.Namespace, UID: string(pod.UID)},
		StartTime:  metav1.NewTime(box.CreatedAt),
		Containers: []statsv1alpha1.ContainerStats{},
	}
	var err error
	if stats.CPU, stats.Memory, err = s.cgroupStats(cgroup, box.CreatedAt); err != nil {
		return stats, err
	}
	for _, c := range pod.Containers {
		if c.State != runtime.Running {
			continue
		}
		container, err := s.containerStats(c, onlyCPUAndMemory)
		if gone(err) {
			continue
		}
		if err != nil {
			return stats, fmt.Errorf("container %s: %w", c.Name, err)
		}
		stats.Containers = append(stats.Containers, container)
	}
	if onlyCPUAndMemory {
		return stats, nil
	}
	if count, err := s.cgroups.processes(cgroup); err == nil { // a controller that may be missing
		stats.ProcessStats = &statsv1alpha1.ProcessStats{ProcessCount: &count}
	}
	stats.Network, err = s.podNetwork(box)
	return stats, err
}

// podNetwork reads what a Pod's own interfaces have done, nil for one without.
func (s *Sampler) podNetwork(box *runtime.Sandbox) (stats *statsv1alpha1.NetworkStats, err error) {
	switch {
	case box.HostNetwork:
		return nil, nil
	case box.PID != 0:
		return s.networkStats(strconv.FormatUint(uint64(box.PID), 10))
	case box.NetNSPath == "":
		return nil, nil
	}
	err = namespaces.OnOwnThread(func() error {
		if err := namespaces.Enter(box.NetNSPath, unix.CLONE_NEWNET); err != nil {
			return err
		}
		stats, err = s.networkStats("thread-self")
		return err
	})
	return stats, err
}

func (s *Sampler) containerStats(c runtime.Container, onlyCPUAndMemory bool) (statsv1alpha1.ContainerStats, error) {
	stats := statsv1alpha1.ContainerStats{Name: c.Name, StartTime: metav1.NewTime(c.StartedAt)}
	var err error
	if stats.CPU, stats.Memory, err = s.cgroupStats(c.CgroupPath, c.StartedAt); err != nil || onlyCPUAndMemory {
		return stats, err
	}
	if info, err := os.Stat(c.LogPath); err == nil { // rotation may be at work
		if disk, err := readFileSystem(c.LogPath); err == nil {
			stats.Logs = s.fsStats(disk, uint64(info.Size()), 1)
		}
	}
	return stats, nil
}

func (s *Sampler) cgroupStats(cgroup string, started time.Time) (*statsv1alpha1.CPUStats, *statsv1alpha1.MemoryStats, error) {
	cpu, err := s.cpuStats(cgroup, started)
	if err != nil {
		return nil, nil, err
	}
	m, err := s.cgroups.memory(cgroup)
	if err != nil {
		return nil, nil, err
	}
	return cpu, memoryStats(m, s.Clock.Now()), nil
}

func (s *Sampler) cpuStats(cgroup string, started time.Time) (*statsv1alpha1.CPUStats, error) {
	nanos, err := s.cgroups.cpu(cgroup)
	if err != nil {
		return nil, err
	}
	now := cpuTime{s.Clock.Now(), nanos}
	stats := &statsv1alpha1.CPUStats{Time: metav1.NewTime(now.at), UsageCoreNanoSeconds: &nanos}
	if rate, ok := s.rate(cgroup, now, started); ok {
		stats.UsageNanoCores = &rate
	}
	return stats, nil
}

func memoryStats(m memory, now time.Time) *statsv1alpha1.MemoryStats {
	stats := &statsv1alpha1.MemoryStats{
		Time: metav1.NewTime(now), UsageBytes: &m.usage, WorkingSetBytes: &m.workingSet, RSSBytes: &m.rss,
		PageFaults: &m.faults, MajorPageFaults: &m.majorFaults,
	}
	if m.limit > 0 {
		stats.AvailableBytes = new(m.limit - min(m.limit, m.workingSet))
	}
	return stats
}

func (s *Sampler) networkStats(pid string) (*statsv1alpha1.NetworkStats, error) {
	interfaces, err := readInterfaces(s.ProcMount, pid)
	if err != nil {
		return nil, err
	}
	stats := &statsv1alpha1.NetworkStats{Time: metav1.NewTime(s.Clock.Now()), Interfaces: interfaces}
	for _, i := range interfaces {
		if i.Name == defaultInterface {
			stats.InterfaceStats = i
		}
	}
	return stats, nil
}

// fsStats describes use, in bytes and inodes, of a file system.
func (s *Sampler) fsStats(disk fileSystem, used, inodesUsed uint64) *statsv1alpha1.FsStats {
	return &statsv1alpha1.FsStats{
		Time: metav1.NewTime(s.Clock.Now()), AvailableBytes: &disk.available, CapacityBytes: &disk.capacity, UsedBytes: &used,
		InodesFree: &disk.inodesFree, Inodes: &disk.inodes, InodesUsed: &inodesUsed,
	}
}
