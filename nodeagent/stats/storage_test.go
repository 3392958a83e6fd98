package stats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/keelson-dev/keelson/nodeagent/runtime"
)

// layers are writable layers by container.
type layers struct {
	runtime.Storage
	used  map[string]runtime.DiskUsage
	err   error
	looks int
}

func (l *layers) ContainerUsage(_ context.Context, id string) (runtime.DiskUsage, error) {
	l.looks++
	return l.used[id], l.err
}

func TestDisksOfAPod(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pod := runtime.PodState{PodIdentity: runtime.PodIdentity{UID: "uid"}, Containers: []runtime.Container{
		{ID: "new", Name: "main", State: runtime.Running, LogPath: write("2.log", 10)},
		{ID: "side", Name: "side", State: runtime.Running},
		{ID: "old", Name: "main", State: runtime.Exited, LogPath: write("1.log", 100)},
		{ID: "init", Name: "init", State: runtime.Exited, LogPath: write("init.log", 5000)},
	}}
	write("2.log.20260101-000000", 1000)
	write("2.log.20260101-000000.gz", 20)
	at := testingclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	l := &layers{used: map[string]runtime.DiskUsage{"new": {Bytes: 4096, Inodes: 3}, "side": {Bytes: 1, Inodes: 1}}}
	volumes := map[string]runtime.DiskUsage{"v": {Bytes: 7, Inodes: 2}}
	d := &Disks{Storage: l, Clock: at, Volumes: func(types.UID) (map[string]runtime.DiskUsage, error) { return volumes, nil }}
	want := PodDisk{At: at.Now(), Volumes: volumes, Containers: []ContainerDisk{
		{Name: "main", Rootfs: runtime.DiskUsage{Bytes: 4096, Inodes: 3}, Logs: runtime.DiskUsage{Bytes: 1130, Inodes: 4}},
		{Name: "side", Rootfs: runtime.DiskUsage{Bytes: 1, Inodes: 1}},
	}}
	got, err := d.Measure(t.Context(), pod, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if total := got.Total(); total != (runtime.DiskUsage{Bytes: 4096 + 1130 + 1 + 7, Inodes: 10}) {
		t.Errorf("total %+v", total)
	}

	at.Step(59 * time.Second)
	if _, err := d.Measure(t.Context(), pod, time.Minute); err != nil || l.looks != 2 {
		t.Errorf("measured again too soon: %d looks, %v", l.looks, err)
	}
	d.Keep(nil)
	if _, err := d.Measure(t.Context(), pod, time.Minute); err != nil || l.looks != 4 {
		t.Errorf("a Pod that was forgotten: %d looks, %v", l.looks, err)
	}
	l.err = errors.New("down")
	if _, err := d.Measure(t.Context(), pod, 0); !errors.Is(err, l.err) {
		t.Errorf("got %v", err)
	}
}

func TestProcessesOfAMachine(t *testing.T) {
	proc := t.TempDir()
	for path, text := range map[string]string{
		"sys/kernel/pid_max": "32768\n", "sys/kernel/threads-max": "20000\n", "loadavg": "0.20 0.18 0.12 1/80 11206\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(proc, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Options{ProcMount: proc, CgroupMount: proc, Clock: testingclock.NewFakeClock(time.Now())})
	if got, err := s.Processes(); err != nil || got != (Amount{Available: 19920, Capacity: 20000}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(proc, "loadavg"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Processes(); err == nil {
		t.Error("nonsense is understood")
	}
}
