package agent

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	keelsonv1 "github.com/keelson-dev/keelson/apis/core/v1"
	"github.com/keelson-dev/keelson/nodeagent/eviction"
	"github.com/keelson-dev/keelson/nodeagent/lifecycle"
	"github.com/keelson-dev/keelson/nodeagent/node"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
	"github.com/keelson-dev/keelson/nodeagent/staticpods"
	"github.com/keelson-dev/keelson/nodeagent/stats"
	"github.com/keelson-dev/keelson/nodeagent/status"
)

// newEviction looks after shortages of this node. thresholds were validated.
func (a *agent) newEviction(thresholds []eviction.Threshold) *eviction.Manager {
	return eviction.New(eviction.Options{
		Thresholds: withPodsMemory(thresholds), Transition: a.options.EvictionPressureTransitionPeriod.Duration,
		MaxGrace: seconds(a.options.EvictionMaxPodGracePeriod),
		Observe:  a.observeNode, Measure: a.measurePod, Pods: a.evictable, Static: staticpods.IsStatic,
		Evict: a.evict, Cleaned: func(pod *keelsonv1.Pod) bool { return a.pool.Stopped(pod.UID) },
		ReclaimContainers: func(ctx context.Context) error { return a.manager.RemoveDead(ctx, lifecycle.DeadPolicy{}) },
		ReclaimImages:     func(ctx context.Context) error { return a.collector.RemoveUnused(ctx) },
		Warn:              a.warnNode, Changed: a.reporter.Poke, Count: a.metrics.evicted, Clock: a.clock,
	})
}

// withPodsMemory applies the hard threshold of memory to what Pods may have together, as
// upstream: their own cgroup may be full before the machine is.
func withPodsMemory(thresholds []eviction.Threshold) []eviction.Threshold {
	all := slices.Clone(thresholds)
	for _, t := range thresholds {
		if t.Signal == eviction.MemoryAvailable && t.Grace == 0 {
			t.Signal = eviction.AllocatableMemoryAvailable
			all = append(all, t)
		}
	}
	return all
}

// observeNode measures what the node has left. What cannot be measured is left out, and
// said, unless nothing can.
func (a *agent) observeNode(ctx context.Context) (eviction.Look, error) {
	look := eviction.Look{Observations: eviction.Observations{}}
	take := func(s eviction.Signal, amount stats.Amount) {
		look.Observations[s] = eviction.Observation{Available: amount.Available, Capacity: amount.Capacity}
	}
	memory, err := a.sampler.Memory()
	if err != nil {
		return look, err
	}
	take(eviction.MemoryAvailable, memory)
	if pods, limited, err := a.sampler.PodsMemory(); err != nil {
		a.notMeasured(ctx, eviction.AllocatableMemoryAvailable, err)
	} else if limited {
		take(eviction.AllocatableMemoryAvailable, pods)
	}
	if processes, err := a.sampler.Processes(); err != nil {
		a.notMeasured(ctx, eviction.PIDAvailable, err)
	} else {
		take(eviction.PIDAvailable, processes)
	}
	node, err := stats.ReadDisk(a.options.RootDir)
	if err != nil {
		return look, err
	}
	take(eviction.NodeFsAvailable, node.Bytes)
	take(eviction.NodeFsInodesFree, node.Inodes)
	images, err := a.imageDisk(ctx)
	if err != nil {
		a.notMeasured(ctx, eviction.ImageFsAvailable, err)
		return look, nil
	}
	take(eviction.ImageFsAvailable, images.Bytes)
	take(eviction.ImageFsInodesFree, images.Inodes)
	look.DedicatedImageFs = images.Device != node.Device
	return look, nil
}

func (a *agent) notMeasured(ctx context.Context, s eviction.Signal, err error) {
	klog.FromContext(ctx).V(2).Info("Cannot measure what the node has left", "signal", s, "err", err)
}

// imageDisk is the file system of images and writable layers.
func (a *agent) imageDisk(ctx context.Context) (stats.Disk, error) {
	folder, err := a.storage.ImageFolder(ctx)
	if err != nil {
		return stats.Disk{}, err
	}
	return stats.ReadDisk(folder)
}

// measurePod measures parts of a Pod; nil when nothing of it runs, or cannot be measured.
func (a *agent) measurePod(ctx context.Context, pod *keelsonv1.Pod, parts eviction.Part) *eviction.Usage {
	state, err := a.runtime.Pod(ctx, pod.UID)
	if err == nil && !slices.ContainsFunc(state.Sandboxes, func(s runtime.Sandbox) bool { return s.State == runtime.Running }) {
		return nil
	}
	usage := &eviction.Usage{}
	if err == nil {
		err = a.measureParts(ctx, pod, state, parts, usage)
	}
	if err != nil {
		klog.FromContext(ctx).V(2).Info("Cannot measure a Pod", "pod", klog.KObj(pod), "err", err)
		return nil
	}
	return usage
}

func (a *agent) measureParts(ctx context.Context, pod *keelsonv1.Pod, state runtime.PodState, parts eviction.Part, usage *eviction.Usage) error {
	containers := map[string]*eviction.ContainerUsage{}
	if parts&eviction.PartMemory != 0 {
		total, byName, err := a.sampler.PodMemory(state)
		if err != nil {
			return fmt.Errorf("measuring its memory: %w", err)
		}
		usage.Memory = total
		for name, used := range byName {
			containers[name] = &eviction.ContainerUsage{Name: name, Memory: used}
		}
	}
	if parts&eviction.PartProcesses != 0 {
		count, err := a.sampler.PodProcesses(state)
		if err != nil {
			return fmt.Errorf("counting its processes: %w", err)
		}
		usage.Processes = count
	}
	if parts&eviction.PartDisk != 0 {
		disk, err := a.disks.Measure(ctx, state, 0)
		if err != nil {
			return fmt.Errorf("measuring its disk: %w", err)
		}
		usage.Volumes = disk.Volumes
		for _, c := range disk.Containers {
			if containers[c.Name] == nil {
				containers[c.Name] = &eviction.ContainerUsage{Name: c.Name}
			}
			containers[c.Name].Rootfs, containers[c.Name].Logs = c.Rootfs, c.Logs
		}
	}
	for _, c := range pod.Spec.Containers {
		usage.Containers = appendUsage(usage.Containers, containers[c.Name])
	}
	for _, c := range pod.Spec.InitContainers {
		usage.Containers = appendUsage(usage.Containers, containers[c.Name])
	}
	for _, c := range pod.Spec.EphemeralContainers {
		usage.Containers = appendUsage(usage.Containers, containers[c.Name])
	}
	return nil
}

func appendUsage(list []eviction.ContainerUsage, one *eviction.ContainerUsage) []eviction.ContainerUsage {
	if one == nil {
		return list
	}
	return append(list, *one)
}

// evictable are the Pods that hold something of this node and are not about to end.
func (a *agent) evictable() []*keelsonv1.Pod {
	return slices.DeleteFunc(a.admitted.list(), func(pod *keelsonv1.Pod) bool {
		return !pod.DeletionTimestamp.IsZero() || terminal(pod)
	})
}

// evict ends a Pod. Its last status says why when nothing of it runs any more.
func (a *agent) evict(ctx context.Context, e eviction.Eviction) {
	a.manager.Evict(e.Pod.UID, status.Failure{Reason: eviction.Reason, Message: e.Message, Disruption: e.Disruption})
	a.recordEviction(e)
	a.end(ctx, e.Pod, e.Grace)
}

// end stops a Pod that has failed; it holds nothing of the node any more.
func (a *agent) end(ctx context.Context, pod *keelsonv1.Pod, grace time.Duration) {
	a.admitted.remove(pod.UID) // once is enough
	a.weighBurstable(ctx)
	a.pool.End(pod.UID, grace)
}

// recordEviction records the end of a Pod; annotations say what it used too much of.
func (a *agent) recordEviction(e eviction.Eviction) {
	if r, ok := a.manager.Recorder.(recorder); ok {
		about := &corev1.ObjectReference{
			APIVersion: keelsonv1.GroupVersion.String(), Kind: "Pod",
			Namespace: e.Pod.Namespace, Name: e.Pod.Name, UID: e.Pod.UID, ResourceVersion: e.Pod.ResourceVersion,
		}
		r.AnnotatedEventf(about, e.Annotations, corev1.EventTypeWarning, eviction.Reason, "%s", e.Message)
		return
	}
	a.manager.Recorder.Record(e.Pod, lifecycle.Note{Type: corev1.EventTypeWarning, Reason: eviction.Reason, Message: e.Message})
}

// warnNode records a warning about this node.
func (a *agent) warnNode(reason, message string) {
	if r, ok := a.manager.Recorder.(recorder); ok {
		about := &corev1.ObjectReference{
			APIVersion: keelsonv1.GroupVersion.String(), Kind: "Node", Name: a.settings.name, UID: types.UID(a.settings.name),
		}
		r.Event(about, corev1.EventTypeWarning, reason, message)
	}
}

// checkPressure refuses Pods for which the node is too short of something.
func (a *agent) checkPressure(pod *keelsonv1.Pod) *refusal {
	if message := a.eviction.Refuse(pod); message != "" {
		return &refusal{Reason: eviction.Reason, Message: message}
	}
	return nil
}

// addStorageFacts adds what the node has on disk and what it is short of.
func (a *agent) addStorageFacts(f *node.Facts) {
	f.Short, f.Images = a.eviction.Conditions(), node.ImageList(a.collector.Images())
	if disk, err := stats.ReadDisk(a.options.RootDir); err == nil { // else nothing is promised of it
		f.DiskBytes = disk.Bytes.Capacity
	}
	f.HeldBack = corev1.ResourceList{}
	for name, bytes := range map[corev1.ResourceName]int64{
		corev1.ResourceMemory:           eviction.HardMemory(a.settings.thresholds, f.Machine.MemoryBytes),
		corev1.ResourceEphemeralStorage: eviction.HardNodeFs(a.settings.thresholds, f.DiskBytes),
	} {
		f.HeldBack[name] = *resource.NewQuantity(bytes, resource.BinarySI)
	}
}
