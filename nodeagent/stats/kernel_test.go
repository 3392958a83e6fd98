package stats

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/keelson-dev/keelson/nodeagent/cgroups"
	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// Benchmark100Pods measures what a look at 100 Pods with one container each costs, on
// the machine's cgroups. It needs root.
func Benchmark100Pods(b *testing.B) {
	const mount = "/sys/fs/cgroup"
	manager, err := cgroups.New(mount)
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
		if err := manager.Ensure(cgroups.PodPath(pod.UID), 2); err != nil {
			b.Skip(err)
		}
		b.Cleanup(func() {
			if err := manager.Remove(cgroups.PodPath(pod.UID)); err != nil {
				b.Error(err)
			}
		})
		for _, controller := range []string{"cpu", "cpuacct", "memory", "pids", ""} {
			root := filepath.Join(mount, controller)
			if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
				continue
			}
			if err := os.MkdirAll(filepath.Join(root, containerCgroup(pod, pod.Containers[0])), 0o755); err != nil {
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
