package stats

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Benchmark100Pods measures what a look at 100 Pods with one container each costs, on
// the machine's cgroups. It needs root.
func Benchmark100Pods(b *testing.B) {
	const mount = "/sys/fs/cgroup"
	manager, err := cgroups.New(mount, cgroups.Layout{Root: "/keelson-bench"})
	if err != nil {
		b.Skip(err)
	}
	lister := &fakeLister{}
	for i := range 100 {
		pod := runtime.PodState{
			PodIdentity: runtime.PodIdentity{UID: types.UID(fmt.Sprintf("bench-%d-%d", os.Getpid(), i)), Name: "p"},
			Sandboxes:   []runtime.Sandbox{{State: runtime.Running}},
			Containers:  []runtime.Container{{ID: "c", Name: "c", State: runtime.Running, StartedAt: time.Now()}},
		}
		pod.Sandboxes[0].CgroupParent = manager.Pod(corev1.PodQOSGuaranteed, pod.UID)
		pod.Containers[0].CgroupPath = pod.Sandboxes[0].CgroupParent + "/c"
		if err := manager.Ensure(pod.Sandboxes[0].CgroupParent, cgroups.Settings{CPUShares: new(uint64(2))}); err != nil {
			b.Skip(err)
		}
		b.Cleanup(func() {
			if err := errors.Join(manager.Remove(pod.UID), manager.RemoveRoot()); err != nil {
				b.Error(err)
			}
		})
		for _, controller := range []string{"cpu", "cpuacct", "memory", "pids", ""} {
			root := filepath.Join(mount, controller)
			if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
				continue
			}
			if err := os.MkdirAll(filepath.Join(root, pod.Containers[0].CgroupPath), 0o755); err != nil {
				b.Skip(err)
			}
		}
		lister.pods = append(lister.pods, pod)
	}
	s := New(Options{Runtime: lister, CgroupMount: mount, ProcMount: "/proc", RootDir: "/", Clock: clock.RealClock{}})
	b.Run("processor time, every ten seconds", func(b *testing.B) {
		for b.Loop() {
			if err := s.sample(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("processor time and memory, when asked", func(b *testing.B) {
		for b.Loop() {
			summary, err := s.Summary(b.Context(), true)
			if err != nil || len(summary.Pods) != len(lister.pods) {
				b.Fatalf("summary has %d Pods, %v", len(summary.Pods), err)
			}
		}
	})
}
